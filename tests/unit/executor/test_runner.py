"""A runner takes what it has room for, counts, and lets go of what it does not hold any more."""

import asyncio
import threading
from dataclasses import replace

import pytest

from broker.client.message import Message
from executor.app import Executor
from executor.model import Assignment, AttemptKey, Outcome, OutcomeState, RunId, Term
from executor.running.context import AsyncContext
from executor.running.runner import Refusal, Runner
from tests.support.attempts import world_of

pytestmark = pytest.mark.anyio


class Shards:
    """A runner whose one handler waits for the test."""

    def __init__(self, slots: int) -> None:
        self.app = Executor("group")
        self.time = 0.0
        self.delivered: list[Outcome] = []
        self.go_on = threading.Event()
        self.app.job("wait")(lambda: self.go_on.wait(10))
        self.runner = Runner(replace(world_of(self.app), monotonic=lambda: self.time), slots, self.deliver)

    async def deliver(self, outcome: Outcome) -> None:
        self.delivered.append(outcome)

    def start(self, shard: int, term: int = 1, handler: str = "wait") -> Refusal | None:
        key = AttemptKey(RunId("run"), shard, Term(term))
        return self.runner.start(Assignment(key, "job", handler, 8), lease_until=10.0)


async def test_a_runner_takes_as_many_shards_as_it_has_slots() -> None:
    shards = Shards(slots=2)
    assert [shards.start(index) for index in range(3)] == [None, None, Refusal.NO_FREE_SLOT]
    assert shards.start(0) is None  # the same again is the one that runs
    shards.go_on.set()
    await shards.runner.drain(5, 5)
    assert [outcome.state for outcome in shards.delivered] == [OutcomeState.SUCCEEDED] * 2


async def test_an_assignment_is_started_at_most_once() -> None:
    shards = Shards(slots=1)
    shards.go_on.set()
    assert shards.start(0) is None
    async with asyncio.timeout(30):
        while shards.runner.held:
            await asyncio.sleep(0.001)
    assert (shards.start(0), shards.start(0, term=2)) == (Refusal.STARTED_BEFORE, None)
    await shards.runner.drain(5, 5)


async def test_a_runner_counts_what_attempts_published_while_they_run_and_when_they_have_ended() -> None:
    shards = Shards(slots=1)

    async def publish(context: AsyncContext) -> None:
        async with context.publisher("t") as publisher:
            await publisher.publish([Message(b"1"), Message(b"2")])
        began.set()
        await go_on.wait()

    began, go_on = asyncio.Event(), asyncio.Event()
    shards.app.job("publish")(publish)
    assert shards.start(0, handler="publish") is None
    async with asyncio.timeout(30):
        await began.wait()
    running = (shards.runner.gained, shards.runner.in_progress, shards.runner.tally.published)
    go_on.set()
    await shards.runner.drain(5, 5)
    assert running == ((0, 2), 1, 0)
    assert (shards.runner.gained, shards.runner.in_progress, shards.runner.tally.published) == ((0, 2), 0, 2)
    assert shards.runner.tally.attempts == {"succeeded": 1}


async def test_a_runner_refuses_what_it_does_not_know_and_what_comes_while_it_drains() -> None:
    shards = Shards(slots=1)
    assert shards.start(0, handler="nobody") is Refusal.UNKNOWN_HANDLER
    await shards.runner.drain(0, 0)
    assert shards.start(0) is Refusal.DRAINING


async def test_a_runner_notices_a_lease_that_ran_out() -> None:
    shards = Shards(slots=1)
    shards.start(0)
    shards.time = 10.0
    shards.runner.lapse()
    assert shards.runner.held == []
    shards.go_on.set()
    await shards.runner.drain(5, 5)
    assert shards.delivered == []
