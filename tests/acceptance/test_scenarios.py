"""Each scenario of the marketing system on real daemons, as its user plays it."""

import sys
from collections import Counter
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

from tests.support.demo_process import running_demo

USERS = 3_000


def played(directory: Path, scenario: str, *options: str, seconds: float = 90) -> tuple[dict[str, Any], Counter[str]]:
    """The report of a scenario that ended well, and the recorded calls by user."""
    with running_demo(directory / "demo", "--scenario", scenario, *options) as demo:
        report = demo.report(seconds)
        assert demo.process.returncode == 0, report
        return report, Counter(call["user_id"] for call in demo.calls())


def everybody(users: int = USERS) -> Counter[str]:
    return Counter(str(number) for number in range(1, users + 1))


@pytest.mark.parametrize("scenario", ["promotion", "hot-goods", "coupon"])
def test_all_users_are_called_exactly_once(tmp_path: Path, scenario: str) -> None:
    report, calls = played(tmp_path, scenario, "--users", str(USERS))
    assert calls == everybody()
    assert (report["audience"], report["published"], report["delivered"]) == (USERS, USERS, USERS)
    assert set(report["peak_rss_mb"]) == {"admin", "broker", "executor", "consumer", "api"}
    if scenario == "coupon":
        assert (report["coupons"], report["claims"], report["granted"]) == (500, 1_000, 500)


def test_a_designated_coupon_goes_to_those_it_is_for(tmp_path: Path) -> None:
    report, calls = played(tmp_path, "designated", "--users", str(USERS))
    assert set(calls.values()) == {1}
    assert 0 < len(calls) == report["granted"] < USERS
    assert all(str(number) in calls for number in range(10, USERS + 1, 10))  # VIPs


def test_each_effect_of_a_cancelled_order_comes_once(tmp_path: Path) -> None:
    report, _ = played(tmp_path, "order-canceled", "--users", "200")
    assert report["orders"] == 200
    for effect in ("coupons", "pieces", "points"):
        assert report[f"{effect}_done"] == report[f"{effect}_due"] > 0


def test_a_scenario_brings_its_own_users() -> None:
    command = [sys.executable, "-m", "shardcast", "demo", "--scenario", "promotion", "--csv", "users.csv"]
    done = run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "a scenario makes its own users: give it --users alone" in done.stderr


@pytest.mark.proof
@pytest.mark.timeout(660)
@pytest.mark.parametrize("scenario", ["promotion", "hot-goods", "designated"])
def test_nobody_is_missed_or_called_twice_while_daemons_are_killed(tmp_path: Path, scenario: str) -> None:
    report, calls = played(tmp_path, scenario, "--users", "300000", "--chaos", seconds=600)
    assert (report["missing"], report["duplicates"], report["unexpected"]) == (0, 0, 0)
    assert set(calls.values()) == {1}
    assert sum(report["kills"].values()) > 0
