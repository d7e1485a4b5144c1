"""The long proof of several admins on one database: whoever is killed or frozen, each fire leads to exactly one run,
and each run is carried out."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.admin_processes import AdminProcess, Installation, running_admins
from tests.support.counting_fires import APP, SOURCE, Count, Fires
from tests.support.proof_time import seconds

SECONDS = max(seconds("several admins"), 20.0)  # on each kind of database
JOBS = int(os.environ.get("PROOF_JOBS", "50"))
ADMINS = 3
EXECUTORS = 2
LEASE_SECONDS = 3.0
PAUSE_SECONDS = (0.5, 3.0)  # between two blows
AWAY_SECONDS = (0.0, 8.0)  # of an admin that was killed or frozen; longer than a lease at times
CALM_SECONDS = 300.0  # in which what was missed is caught up with


def harass(installation: Installation, chance: random.Random, seconds: float) -> Counter[str]:
    """Kills or freezes a random admin every few seconds, and brings it back a while later; all of them, at times.
    Goes on until both have happened."""
    done: Counter[str] = Counter()
    back: dict[int, float] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until or not {"killed", "frozen"} <= done.keys():
        time.sleep(chance.uniform(*PAUSE_SECONDS))  # the pause between two blows is the experiment itself
        for index in [index for index, at in back.items() if at <= time.monotonic()]:
            _bring_back(installation.admins[index])
            del back[index]
        index = chance.randrange(len(installation.admins))
        if index in back:
            continue
        done[_hit(installation.admins[index], chance)] += 1
        back[index] = time.monotonic() + chance.uniform(*AWAY_SECONDS)
    for index in back:
        _bring_back(installation.admins[index])
    installation.wait_until_ready()
    return done


def _hit(admin: AdminProcess, chance: random.Random) -> str:
    match chance.choice(("killed", "killed", "frozen", "drained")):
        case "frozen":
            admin.process.freeze()
            return "frozen"
        case "drained":
            admin.process.drain()
            assert admin.process.popen is not None
            begun, not_begun = 0, -signal.SIGTERM
            assert admin.process.popen.returncode in (begun, not_begun), admin.process.said()
            return "drained"
        case how:
            admin.process.kill()
            return how


def _bring_back(admin: AdminProcess) -> None:
    if admin.process.is_frozen:
        admin.process.thaw()
    else:
        admin.process.start()


def prove(directory: Path, url: str, *, admins: int, jobs: int, seconds: float) -> Count:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    calls = directory / "calls.jsonl"
    with running_admins(directory, url, admins, SHARDCAST_LEASE_SECONDS=str(LEASE_SECONDS)) as installation:
        for _ in range(EXECUTORS):
            installation.start_executor(APP, SOURCE, CALLS=str(calls), SHARDCAST_SLOTS="64")
        fires = Fires(installation, calls, jobs)
        fires.begin()
        blows = harass(installation, random.Random(seed), seconds)
        fires.end(CALM_SECONDS)
        count = fires.check()
        assert all(executor.is_running for executor in installation.executors)
    print(f"{count}, {dict(blows)}")
    return count


@pytest.mark.proof
@pytest.mark.timeout(SECONDS + 2 * CALM_SECONDS + 120)
def test_every_fire_has_one_run_while_admins_are_killed_and_frozen(tmp_path: Path, shared_database_url: str) -> None:
    count = prove(tmp_path, shared_database_url, admins=ADMINS, jobs=JOBS, seconds=SECONDS)
    assert count.runs >= JOBS * SECONDS * 0.9


@pytest.mark.proof
@pytest.mark.timeout(300)
def test_every_fire_has_one_run_while_the_only_admin_is_killed_and_frozen(tmp_path: Path) -> None:
    count = prove(tmp_path, f"sqlite:///{tmp_path / 'admin.db'}", admins=1, jobs=5, seconds=8)
    assert count.runs >= 5 * 8 * 0.9
