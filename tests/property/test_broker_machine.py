"""The whole broker against plain lists: everything that can be asked of it, with kills in between."""

import time

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.broker_machine.base import ORDERS
from tests.support.broker_machine.operating import Operating
from tests.support.proof_time import seconds

SECONDS = seconds("broker machine")


class BrokerMachine(Operating):
    """All rules together."""


def rounds(examples: int, steps: int) -> settings:
    """Without shrinking: the steps of what failed are printed, and some hundred lives are not lived again."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def test_delayed_messages_of_a_key_do_not_overtake_each_other_when_queues_are_added() -> None:
    machine = BrokerMachine()
    machine.publish(0, [(ORDERS, [("k0", False, 500), ("k0", False, 20_000)], None)], cursor=False)
    machine.alter(ORDERS, 4, shrinks=False)
    machine.publish(0, [(ORDERS, [("k0", False, 5_000)], None)], cursor=False)
    machine.time_passes(61_000)
    machine.deliver_what_is_due()
    machine.teardown()


def test_what_a_queue_lost_when_its_topic_shrank_stays_away_behind_a_crash() -> None:
    machine = BrokerMachine()
    machine.read_everything()
    machine.alter(ORDERS, 1, shrinks=True)
    machine.kill_and_start()
    machine.alter(ORDERS, 2, shrinks=False)
    machine.queues_hold_what_they_should()
    machine.teardown()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_broker_does_what_lists_do() -> None:
    run_state_machine_as_test(BrokerMachine, settings=rounds(60, 40))


@pytest.mark.proof
@pytest.mark.timeout(SECONDS + 600)
def test_the_broker_does_what_lists_do_for_long() -> None:
    until, examples = time.monotonic() + SECONDS, 0
    while examples == 0 or time.monotonic() < until:
        run_state_machine_as_test(BrokerMachine, settings=rounds(50, 60))
        examples += 50
    print(f"{examples} examples")
