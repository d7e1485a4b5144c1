"""The stores over SQLite and in memory do the same, whatever is asked of them."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.admin_factories import NOW
from tests.support.admin_store_machine import StoreMachine
from tests.support.admin_twins import SimulatedClock, sqlite_on
from tests.support.proof_time import seconds

SECONDS = seconds("admin store machine")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[type[StoreMachine]]:
    clock = SimulatedClock(NOW)
    with sqlite_on(tmp_path, clock) as database, asyncio.Runner() as runner:
        yield type("Machine", (StoreMachine,), {"clock": clock, "database": database, "runner": runner})


def rounds(examples: int, steps: int) -> settings:
    """Without shrinking: the steps of what failed are printed."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.slow
def test_both_stores_do_the_same(machine: type[StoreMachine]) -> None:
    run_state_machine_as_test(machine, settings=rounds(30, 40))


@pytest.mark.proof
@pytest.mark.timeout(SECONDS + 600)
def test_both_stores_do_the_same_for_long(machine: type[StoreMachine]) -> None:
    until, examples = time.monotonic() + SECONDS, 0
    while examples == 0 or time.monotonic() < until:
        run_state_machine_as_test(machine, settings=rounds(50, 80))
        examples += 50
    print(f"{examples} examples")
