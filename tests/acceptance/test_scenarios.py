"""Each scenario of the marketing system on real daemons, as its user plays it."""

import sys
from collections import Counter
from collections.abc import Sequence
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


@pytest.mark.parametrize("scenario", ["promotion", "hot-goods", pytest.param("coupon", marks=pytest.mark.proof)])
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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("promotion", "--csv", "users.csv"), "a scenario makes its own users: give it --users alone"),
        (("promotion", "--users", "0"), "a scenario needs users"),
        (("nothing",), "There is no scenario nothing; there is coupon,"),
    ],
)
def test_a_scenario_that_cannot_be_played_is_refused(options: Sequence[str], told: str) -> None:
    command = [sys.executable, "-m", "shardcast", "demo", "--scenario", *options]
    done = run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_scenario_for_nobody_says_so(tmp_path: Path) -> None:
    """None of the first nine users is designated."""
    command = [sys.executable, "-m", "shardcast", "demo", "--scenario", "designated", "--users", "9"]
    done = run([*command, "--data", str(tmp_path)], capture_output=True, text=True, check=False, timeout=90)
    assert (done.returncode, done.stdout) == (1, "")
    told = "The scenario cannot go on: POST /promotions was refused: The audience is nobody: no user meets it.\n"
    assert done.stderr == told


def test_scenarios_are_played_one_after_another_in_the_same_directory(tmp_path: Path) -> None:
    """With other users each, beside what is left of those before."""
    assert played(tmp_path, "coupon", "--users", "1")[0]["granted"] == 1
    assert played(tmp_path, "coupon", "--users", "20")[0]["granted"] == 10
    assert played(tmp_path, "hot-goods", "--users", "30")[1] == everybody(30)
    assert played(tmp_path, "designated", "--users", "10")[0]["granted"] == 1


@pytest.mark.proof
@pytest.mark.timeout(660)
@pytest.mark.parametrize(
    ("scenario", "users"),
    [("promotion", 300_000), ("hot-goods", 300_000), ("designated", 900_000)],  # of whom a quarter is meant
)
def test_nobody_is_missed_or_called_twice_while_daemons_are_killed(tmp_path: Path, scenario: str, users: int) -> None:
    report, calls = played(tmp_path, scenario, "--users", str(users), "--chaos", seconds=600)
    assert (report["missing"], report["duplicates"], report["unexpected"]) == (0, 0, 0)
    assert set(calls.values()) == {1}
    assert sum(report["kills"].values()) > 0
