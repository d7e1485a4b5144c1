"""One suite for every store that is shared: many at once, processes that die, and stores that go away."""

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from executor.errors import ClaimHeld
from executor.limits.claims import Unknown
from executor.limits.limits import Limits
from executor.limits.sql.tables import METADATA
from tests.support.limit_stores import KINDS, SHARED_KINDS, SQL_KINDS, Installation, installed

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
THREADS = 6
NOTHING = timedelta(0)

DYING = """
import signal, sys
from datetime import timedelta
from executor.limits.limits import Limits

with Limits(sys.argv[1]).once_all(sys.argv[2:], window=timedelta(days=1), claim=timedelta(minutes=1)) as fresh:
    print(*fresh, flush=True)
    signal.pause()
"""


@pytest.fixture(params=KINDS)
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    with installed(request.param, request, tmp_path) as there:
        yield there


@pytest.fixture(params=SHARED_KINDS)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    with installed(request.param, request, tmp_path) as there:
        yield there


def at_once(installation: Installation, act: Callable[[Limits, int], None]) -> None:
    """Each thread has connections of its own, and none begins before all are there."""
    everyone = threading.Barrier(THREADS)

    def work(limits: Limits, number: int) -> None:
        everyone.wait()
        act(limits, number)

    opened = [installation.open() for _ in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(work, limits, number) for number, limits in enumerate(opened)]:
            done.result()


def turned(keys: list[str], number: int) -> list[str]:
    """Each one in an order of its own, as deadlocks like it."""
    keys = keys[number:] + keys[:number]
    return keys if number % 2 else keys[::-1]


def test_each_key_is_done_once_however_many_want_it(installation: Installation) -> None:
    keys = [f"order-{number}" for number in range(40)]
    done: list[str] = []

    def act(limits: Limits, number: int) -> None:
        open_keys = turned(keys, number)
        while open_keys:
            try:
                with limits.once_all(open_keys[:20], window=DAY) as fresh:
                    done.extend(fresh)
            except ClaimHeld:
                continue
            open_keys = open_keys[20:]

    at_once(installation, act)
    assert Counter(done) == Counter(keys)


def test_a_cap_is_never_exceeded_however_many_want_more(installation: Installation) -> None:
    keys = [f"user-{number}" for number in range(20)]
    allowed: list[str] = []

    def act(limits: Limits, number: int) -> None:
        for _ in range(4):
            allowed.extend(limits.cap_all(turned(keys, number), most=7, window=DAY))

    at_once(installation, act)
    assert Counter(allowed) == dict.fromkeys(keys, 7)


def test_a_bucket_gives_no_more_than_it_has_however_many_want_more(installation: Installation) -> None:
    keys = [f"provider-{number}" for number in range(10)]
    granted: list[str] = []

    def act(limits: Limits, number: int) -> None:
        for _ in range(4):
            mine = turned(keys, number)
            waits = limits.take_all(mine, rate=11, per=DAY)
            granted.extend(key for key, wait in zip(mine, waits, strict=True) if wait == NOTHING)

    at_once(installation, act)
    assert Counter(granted) == dict.fromkeys(keys, 11)


@pytest.mark.parametrize("kind", SQL_KINDS)
def test_the_tables_are_made_once_however_many_come_first(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    with installed(kind, request, tmp_path) as installation:
        METADATA.drop_all(sa.create_engine(installation.url, poolclass=sa.NullPool))
        done: list[str] = []
        at_once(installation, lambda limits, number: done.extend(limits.cap_all([f"u{number}"], most=1, window=DAY)))
        assert len(done) == THREADS


@pytest.mark.parametrize("unknown", ["repeat", "skip"])
def test_what_a_killed_process_had_claimed_is_repeated_or_skipped(shared: Installation, unknown: Unknown) -> None:
    limits = shared.open()
    command = [sys.executable, "-c", DYING, shared.url, "a", "b"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "a b\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    once = partial(limits.once_all, ["a", "b", "c"], window=DAY, unknown=unknown)
    with pytest.raises(ClaimHeld), once() as fresh:
        assert (list(fresh), fresh.held) == (["c"], ["a", "b"])
    shared.pass_time(2 * MINUTE)
    with once() as fresh:
        assert fresh == (["a", "b"] if unknown == "repeat" else [])
    with once() as fresh:
        assert fresh == []
