"""What attempts are given in tests: an app, a time, and a producer in memory."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime

from executor.app import Executor
from executor.model import Assignment, AttemptKey, Outcome, RunId, Term
from executor.running.attempt import Attempt, World
from executor.testing import MemoryProducer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = AttemptKey(RunId("run"), 0, Term(1))


def opening(producer: MemoryProducer) -> Callable[[AttemptKey], AbstractAsyncContextManager[MemoryProducer]]:
    @asynccontextmanager
    async def open_producer(key: AttemptKey) -> AsyncIterator[MemoryProducer]:
        yield producer

    return open_producer


def world_of(app: Executor, state: object = None) -> World:
    """Where everything is acknowledged at once and time stands still."""

    async def keep(attempt: AttemptKey, name: str, value: str) -> str:
        return value

    return World(app.registry, opening(MemoryProducer()), keep, lambda: NOW, lambda: 0.0, state)


def attempt_of(app: Executor, handler: str = "handler", params: str = "null", state: object = None) -> Attempt:
    return Attempt(world_of(app, state), Assignment(KEY, "job", handler, 1, params), lease_until=10.0)


async def outcome_of(app: Executor, handler: str = "handler", params: str = "null", state: object = None) -> Outcome:
    outcome = await attempt_of(app, handler, params, state).run()
    assert outcome is not None
    return outcome
