"""The long proof: whole campaigns while daemons are killed, frozen and thawed at random, each compared row by row."""

import os
import random
import signal
import sys
import time
from collections import Counter, deque
from pathlib import Path

import pytest

from tests.support.demo_process import Demo, running_demo
from tests.support.proof_time import seconds

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find the daemons"),
]

USERS = 1_500_000  # some ten seconds of publishing on two cores
SECONDS = seconds("random kills")
KINDS = ("executor", "executor", "broker", "admin")  # an executor twice as often
FROZEN_SECONDS = 8.0  # longer than a lease
MOST_KILLS, KILLS_SECONDS = (
    4,
    20.0,
)  # of a kind: five quick deaths in a row are a crash loop and end everything, rightly


def harass(demo: Demo, chance: random.Random) -> Counter[str]:
    """Kills or freezes a random daemon every few seconds until the run has been published."""
    done: Counter[str] = Counter()
    thaw: list[tuple[float, int]] = []
    kills: dict[str, deque[float]] = {kind: deque([-KILLS_SECONDS] * MOST_KILLS, MOST_KILLS) for kind in KINDS}
    while demo.process.poll() is None:
        pause = chance.uniform(0.5, 3.0)
        until = time.monotonic() + pause
        while time.monotonic() < until and demo.process.poll() is None:
            time.sleep(0.05)  # the pause between two blows is the experiment itself
        _thaw([pid for at, pid in thaw if at <= time.monotonic()])
        thaw = [(at, pid) for at, pid in thaw if at > time.monotonic()]
        if _is_published(demo):
            break
        kind = chance.choice(KINDS)
        if not (pids := demo.pids(kind)):
            continue
        pid = chance.choice(pids)
        freezes = kind == "executor" and chance.random() < 0.3
        if not freezes and kills[kind][0] > time.monotonic() - KILLS_SECONDS:
            continue
        if not _signal(pid, signal.SIGSTOP if freezes else signal.SIGKILL):
            continue
        if freezes:
            thaw.append((time.monotonic() + FROZEN_SECONDS, pid))
        else:
            kills[kind].append(time.monotonic())
        done[f"{kind} {'frozen' if freezes else 'killed'}"] += 1
    _thaw([pid for _, pid in thaw])
    return done


def _thaw(pids: list[int]) -> None:
    for pid in pids:
        _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _is_published(demo: Demo) -> bool:
    shards = demo.shards()
    return bool(shards) and all(shard["state"] == "succeeded" for shard in shards)


@pytest.mark.timeout(SECONDS + 900)
def test_campaigns_under_random_kills_reach_everybody_exactly_once(tmp_path: Path) -> None:
    began = time.monotonic()
    blows: Counter[str] = Counter()
    campaigns = 0
    while campaigns == 0 or time.monotonic() - began < SECONDS:
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"campaign {campaigns + 1}, seed {seed}")
        with running_demo(tmp_path / f"demo-{seed}", "--users", str(USERS), "--executors", "3") as demo:
            blows += harass(demo, random.Random(seed))
            report = demo.report(seconds=300)
            calls = Counter(call["user_id"] for call in demo.calls())
        assert set(calls) == {str(number) for number in range(1, USERS + 1)}, f"seed {seed}"
        assert (report["missing"], report["duplicates"]) == (0, 0), f"seed {seed}: {report}"
        campaigns += 1
    print(f"{campaigns} campaigns, {dict(blows)}")
    assert sum(blows.values()) >= campaigns, "too little was killed to prove anything"


@pytest.mark.timeout(900)
def test_memory_stays_flat_from_one_to_four_million(tmp_path: Path) -> None:
    peaks = {}
    for users in (1_000_000, 4_000_000):
        with running_demo(tmp_path / f"demo-{users}", "--users", str(users)) as demo:
            peaks[users] = demo.report(seconds=600)["peak_rss_mb"]
    print(peaks)
    assert all(peak["executor"] < 150 for peak in peaks.values()), peaks
    assert peaks[4_000_000]["executor"] < peaks[1_000_000]["executor"] * 1.25, peaks
