"""The long proof of shards that move: executors are killed, frozen and cut off while they copy a table to a topic, and
the topic holds each row exactly once."""

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.moving_shards import Copying, make_table, running_fleet
from tests.support.proof_time import seconds
from tests.support.striking import MOVING, Fault, Figures, Late, Strikes

SECONDS = seconds("takeovers")  # on each kind of database
TAKEOVERS = 30  # on each, however short that is
SLOW_CLOCKS = (False, True, True)  # of executors; one whose clock is slow is late without knowing it
PARAMS: Mapping[str, object] = {"batch": 4, "flush_every": 2}

STRATEGIES = ("hash", "ranges")

Choose = Callable[[random.Random, Figures], list[Fault]]
"""What strikes next, each another executor."""


def prove(directory: Path, table_url: str, rows: int, choose: Choose, is_enough: Callable[[Figures], bool]) -> Figures:
    """Copies the table again and again, under strikes, until it is enough."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance, figures = random.Random(seed), Figures()
    with running_fleet(directory, table_url, make_table(table_url, rows, chance), SLOW_CLOCKS) as fleet:
        while not is_enough(figures):
            strategy, queues = chance.choice(STRATEGIES), chance.choice((1, 4))
            copying = fleet.begin({**PARAMS, "scan": {"strategy": strategy}}, queues)
            harass(copying, chance, figures, lambda: [] if is_enough(figures) else choose(chance, figures))
            copying.check()
            figures.runs += 1
    print(figures)
    return figures


def harass(copying: Copying, chance: random.Random, figures: Figures, choose: Callable[[], list[Fault]]) -> None:
    """Strikes whenever some more rows are published, until the run has ended."""
    strikes = Strikes(copying, chance, figures)
    while True:
        copying.wait_until_published(chance.randrange(len(copying.fleet.table) // 20))
        if copying.is_ended or not (faults := choose()):
            return
        strikes.strike(faults)


def anything(chance: random.Random, _: Figures) -> list[Fault]:
    return chance.choices(list(Fault), k=chance.choice((1, 1, 2)))


@pytest.mark.proof
@pytest.mark.timeout(SECONDS + 900)
def test_a_table_is_copied_exactly_once_through_many_takeovers(tmp_path: Path, admin_database_url: str) -> None:
    end = time.monotonic() + SECONDS

    def is_enough(figures: Figures) -> bool:
        has_seen_all = figures.takeovers.keys() == MOVING and figures.late.keys() >= {Late.ITSELF, Late.BROKER}
        return time.monotonic() >= end and figures.takeovers.total() >= TAKEOVERS and has_seen_all

    figures = prove(tmp_path, admin_database_url, 40_000, anything, is_enough)
    assert figures.takeovers.total() >= TAKEOVERS


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.proof
def test_a_table_is_copied_exactly_once_through_a_takeover_of_each_kind(tmp_path: Path) -> None:
    todo = (Fault.KILLED, Fault.DRAINED, Fault.CUT_FROM_BROKER, Fault.FROZEN, Fault.SILENCED)

    def next_ones(_: random.Random, figures: Figures) -> list[Fault]:
        return [fault for fault in todo if not figures.faults[fault]][:3]

    def is_enough(figures: Figures) -> bool:
        return set(figures.faults) == set(todo)

    figures = prove(tmp_path, f"sqlite:///{tmp_path / 'users.db'}", 4_000, next_ones, is_enough)
    assert figures.takeovers.total() >= 3
