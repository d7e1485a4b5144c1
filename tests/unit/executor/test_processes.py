"""Handlers in processes of their own: what they see, how they end, and that nothing outlives its attempt."""

import asyncio
import json
import os
import signal
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from broker.errors import StaleTerm
from executor.limits.current import using
from executor.limits.limits import Limits
from executor.model import Assignment, AttemptKey, Outcome, OutcomeState, RunId, Term
from executor.running.attempt import Attempt, World
from executor.running.cancellation import Why
from executor.testing import MemoryProducer
from tests.support.attempts import NOW, opening
from tests.support.process_app import app
from tests.support.processes import is_gone, until
from tests.support.redis_server import running_redis
from tests.support.tables import table_of_users

pytestmark = pytest.mark.anyio

KEY = AttemptKey(RunId("run"), 1, Term(3))


class FencedProducer(MemoryProducer):
    """Another holder has the shard."""

    async def flush(self) -> None:
        raise StaleTerm(producer_id="p", term=3, current=9)


@dataclass
class Given:
    """A world in which the test says what time it is and what the broker does."""

    producer: MemoryProducer = field(default_factory=MemoryProducer)
    pins: dict[str, str] = field(default_factory=dict)

    async def pin(self, attempt: AttemptKey, name: str, value: str) -> str:
        return self.pins.setdefault(name, value)

    def attempt(self, handler: str, params: object = None, *, total: int = 4, **more: object) -> Attempt:
        world = World(app.registry, opening(self.producer), self.pin, lambda: NOW, lambda: 0.0)
        assignment = Assignment(KEY, "job", handler, total, json.dumps(params), **more)  # type: ignore[arg-type]
        return Attempt(world, assignment, lease_until=10.0)

    async def outcome(self, handler: str, params: object = None, **more: object) -> Outcome:
        outcome = await self.attempt(handler, params, **more).run()  # type: ignore[arg-type]
        assert outcome is not None
        return outcome


def lines_of(attempt: Attempt) -> list[str]:
    batch = attempt.log.take()
    return [line.text for line in batch.lines] if batch is not None else []


async def test_a_handler_in_a_process_sees_its_attempt_and_its_result_is_kept() -> None:
    attempt = Given().attempt("see", {"a": 2}, attempt_number=2, counts={"seen": 1})
    outcome = await attempt.run()
    assert outcome is not None
    result = json.loads(outcome.result)
    assert result.pop("pid") != os.getpid()
    assert result == {"shard": [1, 4], "seconds": 2.0, "attempt": 2}
    assert (outcome.state, outcome.counters.done, outcome.counters.total) == (OutcomeState.SUCCEEDED, 3, 4)
    assert outcome.counters.counts == {"seen": 3}
    assert len(lines_of(attempt)) == 1


@pytest.mark.parametrize(
    ("params", "state", "code", "is_retryable", "after"),
    [
        ("retry", OutcomeState.FAILED, "retry", True, timedelta(seconds=2)),
        ("fail", OutcomeState.FAILED, "fail", False, None),
        ("skip", OutcomeState.SKIPPED, "skip", False, None),
        ("odd", OutcomeState.FAILED, "Odd", True, None),
        ("key", OutcomeState.FAILED, "KeyError", False, None),
        ("exit", OutcomeState.FAILED, "RuntimeError", True, None),
        ("result", OutcomeState.FAILED, "bad_result", False, None),
    ],
)
async def test_however_the_handler_ends_in_its_process_the_outcome_is_the_same_as_here(
    params: str, state: OutcomeState, code: str, is_retryable: bool, after: timedelta | None
) -> None:
    outcome = await Given().outcome("end", params)
    assert (outcome.state, outcome.error_code, outcome.is_retryable, outcome.retry_after) == (
        state,
        code,
        is_retryable,
        after,
    )
    assert ("only known there" in outcome.traceback) is (params == "odd")


async def test_a_process_has_its_own_dependencies_and_no_state_of_the_lifespan() -> None:
    assert (await Given().outcome("depend", "job")).result == '"job"'
    assert (await Given().outcome("depend", "state")).error_code == "no_state"


@pytest.mark.parametrize(
    ("params", "told"), [("exit", "exited with 3"), ("segfault", "SIGSEGV"), ("kill", "SIGKILL, as the system does")]
)
async def test_a_process_that_dies_is_one_failure_that_says_of_what_and_may_be_retried(params: str, told: str) -> None:
    outcome = await Given().outcome("die", params)
    assert (outcome.state, outcome.error_code, outcome.is_retryable) == (OutcomeState.FAILED, "handler_died", True)
    assert told in outcome.error_message


async def test_a_daemon_that_leaves_its_group_holds_up_nobody(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    try:
        async with asyncio.timeout(30):
            outcome = await Given().outcome("leave", str(told))
        assert outcome.error_code == "handler_died"
    finally:
        os.kill(int(told.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_a_process_asks_the_same_limits_as_its_app(tmp_path: Path, kind: str) -> None:
    with ExitStack() as stack:
        is_sqlite = kind == "sqlite"
        url = f"sqlite:///{tmp_path}/limits.db" if is_sqlite else stack.enter_context(running_redis(tmp_path)).url
        limits = stack.enter_context(closing(Limits(url)))
        with limits.once("here", window=timedelta(days=1)):
            pass
        with using(limits):
            results = [(await Given().outcome("once", key)).result for key in ("here", "there")]
    assert results == ["false", "true"]


async def test_limits_in_memory_are_not_those_of_a_process() -> None:
    with using(Limits("memory://")):
        assert (await Given().outcome("once", "key")).error_code == "no_limits"


@pytest.mark.parametrize(
    ("why", "state"), [(Why.CANCELLED, OutcomeState.CANCELLED), (Why.LOST, None), (None, OutcomeState.FAILED)]
)
async def test_one_that_heeds_nothing_is_killed_with_its_children_by_cancel_lost_lease_and_timeout(
    tmp_path: Path, why: Why | None, state: OutcomeState | None
) -> None:
    told = tmp_path / "pids"
    attempt = Given().attempt("spin", str(told), timeout=timedelta(seconds=6) if why is None else None)
    running = asyncio.create_task(attempt.run())
    await until(lambda: attempt.log.has_news)
    pids = json.loads(told.read_text())
    if why is not None:
        attempt.cancellation.request(why, "enough")
    outcome = await running
    assert (outcome.state if outcome is not None else None) == state
    if why is None:
        assert outcome is not None
        assert outcome.error_code == "attempt_timed_out"
    await until(lambda: all(map(is_gone, pids)))
    assert lines_of(attempt) == ["spinning"], "what it logged outlives it"


async def test_a_drain_lets_it_end_at_its_next_call() -> None:
    attempt = Given().attempt("watch")
    running = asyncio.create_task(attempt.run())
    await until(lambda: attempt.log.has_news)
    attempt.cancellation.request(Why.RELEASED, "the executor drains")
    outcome = await running
    assert outcome is not None
    assert outcome.state is OutcomeState.RELEASED
    assert lines_of(attempt) == ["watching", "told"]


async def test_an_executor_that_leaves_kills_it() -> None:
    attempt = Given().attempt("watch")
    running = asyncio.create_task(attempt.run())
    await until(lambda: attempt.log.has_news)
    process = attempt._process
    assert process is not None
    assert process.pid is not None
    running.cancel()
    await asyncio.wait((running,))
    await until(lambda: is_gone(process.pid or 0))


async def test_a_shard_that_is_published_from_processes_goes_on_behind_the_cursor_of_one_that_died(
    tmp_path: Path,
) -> None:
    given, params = Given(), json.dumps([table_of_users(tmp_path / "db", 200), 50])
    first = await given.outcome("push", params, total=2)
    assert (first.error_code, first.is_retryable) == ("handler_died", True)
    attempt = given.attempt("push", params, total=2, attempt_number=2, pins=dict(given.pins))
    second = await attempt.run()
    assert second is not None
    assert second.state is OutcomeState.SUCCEEDED
    keys = [message.key for _, message in given.producer.published]
    assert len(keys) == len(set(keys)) == second.counters.published == second.counters.rows
    assert 50 <= len(keys) - int(second.result) < 70, "the first one's are not published again"
    assert attempt.gained == (int(second.result), int(second.result)), "nor counted again"


async def test_a_fenced_shard_is_told_as_such_by_a_process_too() -> None:
    outcome = await Given(FencedProducer()).outcome("publish")
    assert (outcome.state, outcome.broker_term) == (OutcomeState.FENCED, 9)


async def test_a_process_that_cannot_find_its_function_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    function = app.registry.get("publish").function
    monkeypatch.setattr(function, "__qualname__", "nowhere")
    outcome = await Given().outcome("publish")
    assert (outcome.error_code, outcome.is_retryable) == ("bad_handler", False)
    assert "nowhere" in outcome.error_message
