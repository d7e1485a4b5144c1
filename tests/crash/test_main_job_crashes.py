"""The main job on real processes while they are killed and stopped: the recorded calls are exactly the table."""

import json
import os
import signal
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.support.demo_process import Demo, running_demo, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find the daemons"),
]

USERS = 400_000
EARLY = USERS // 10


def assert_exactly_the_table(demo: Demo) -> None:
    report = demo.report()
    calls = Counter(call["user_id"] for call in demo.calls())
    assert set(calls) == {str(number) for number in range(1, USERS + 1)}
    assert (report["missing"], report["duplicates"], report["delivered"]) == (0, 0, USERS)
    assert demo.process.returncode == 0


def log_of(demo: Demo, daemon: str) -> list[dict[str, object]]:
    lines = (demo.data / "logs" / f"{daemon}.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def highest_term(demo: Demo) -> int | None:
    terms = [shard["term"] for shard in demo.shards()]
    return max(terms) if terms and max(terms) >= 2 else None


@pytest.mark.proof  # test_takeovers has a short one
def test_shards_of_a_killed_executor_go_on_elsewhere(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo", "--users", str(USERS), "--executors", "3") as demo:
        demo.wait_until_published(EARLY)
        demo.kill("executor")
        wait_for("a shard to change hands", lambda: highest_term(demo))
        assert_exactly_the_table(demo)


def test_a_killed_broker_comes_back_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo", "--users", str(USERS)) as demo:
        demo.wait_until_published(EARLY)
        demo.kill("broker")
        assert_exactly_the_table(demo)
        assert len([line for line in log_of(demo, "broker") if line.get("action") == "ready"]) == 2


@pytest.mark.proof
def test_a_killed_admin_comes_back_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo", "--users", str(USERS)) as demo:
        demo.wait_until_published(EARLY)
        demo.kill("admin")
        assert_exactly_the_table(demo)
        assert len([line for line in log_of(demo, "admin") if line.get("action") == "ready"]) == 2


@pytest.mark.proof
def test_an_executor_that_was_frozen_past_its_lease_is_fenced(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo", "--users", str(USERS)) as demo:
        demo.wait_until_published(EARLY)
        frozen = demo.pids("executor")[0]
        os.kill(frozen, signal.SIGSTOP)
        wait_for("a shard to change hands", lambda: highest_term(demo))
        os.kill(frozen, signal.SIGCONT)
        assert_exactly_the_table(demo)


@pytest.mark.proof
def test_a_killed_consumer_repeats_only_what_it_had_not_committed(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo", "--users", str(USERS)) as demo:
        demo.wait_until_delivered(EARLY)
        demo.kill("consumer")
        report = demo.report()
        messages: dict[str, list[str]] = defaultdict(list)
        for call in demo.calls():
            messages[call["user_id"]].append(call["message_id"])
    assert report["missing"] == 0
    assert set(messages) == {str(number) for number in range(1, USERS + 1)}
    again = {user: ids for user, ids in messages.items() if len(ids) > 1}
    assert all(len(set(ids)) == 1 for ids in again.values()), "a user was called for two different messages"
    assert len(again) == report["duplicates"]
    # One fetched batch (1,000 messages at most) per queue can be under way in a consumer.
    assert len(again) <= 4 * 1_000
