"""What a handler's author says of retries and of slots, and what the executor makes of it."""

import asyncio

import pytest

from broker.errors import StaleTerm
from executor.app import Executor
from executor.errors import Fail, NullKey, Retry, Skip
from executor.model import Assignment, AttemptKey, OutcomeState, RunId, Term
from executor.running.runner import Refusal, Runner
from tests.support.attempts import outcome_of, world_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("manner", "error", "is_retryable"),
    [
        ({}, ValueError(), True),
        ({"retry_on": OSError}, ConnectionError(), True),
        ({"retry_on": OSError}, ValueError(), False),
        ({"give_up_on": (ValueError, KeyError)}, KeyError(), False),
        ({"give_up_on": (ValueError, KeyError)}, OSError(), True),
        ({"retry_on": OSError, "give_up_on": ConnectionError}, ConnectionResetError(), False),
        ({"retry_on": NullKey}, NullKey(column="id", table="t"), True),  # hopeless, if nobody says otherwise
        ({"retry_on": OSError}, Retry("word"), True),
        ({"give_up_on": Exception}, Retry("word"), True),
        ({"retry_on": Exception}, Fail("word"), False),
    ],
)
async def test_errors_are_tried_again_as_the_author_says(
    manner: dict[str, object], error: Exception, is_retryable: bool
) -> None:
    app = Executor("group")

    @app.job("handler", **manner)  # type: ignore[call-overload]
    def handler() -> None:
        raise error

    outcome = await outcome_of(app)
    assert (outcome.state, outcome.is_retryable) == (OutcomeState.FAILED, is_retryable)


@pytest.mark.parametrize(
    ("error", "state"),
    [(Skip("word"), OutcomeState.SKIPPED), (StaleTerm(producer_id="p", current=9, term=1), OutcomeState.FENCED)],
)
async def test_a_skip_and_a_fence_are_no_matter_of_retries(error: Exception, state: OutcomeState) -> None:
    app = Executor("group")

    @app.job("handler", give_up_on=Exception)
    def handler() -> None:
        raise error

    outcome = await outcome_of(app)
    assert outcome.state is state


async def test_a_handler_with_slots_of_its_own_leaves_the_others_to_the_rest() -> None:
    app, go_on = Executor("group"), asyncio.Event()

    @app.job("slow", slots=2)
    @app.job("quick")
    async def wait() -> None:
        await go_on.wait()

    async def deliver(outcome: object) -> None: ...

    runner = Runner(world_of(app), 4, deliver)

    def start(handler: str, shard: int) -> Refusal | None:
        key = AttemptKey(RunId("run"), shard, Term(1))
        return runner.start(Assignment(key, "job", handler, 8), lease_until=10.0)

    assert [start("slow", index) for index in range(3)] == [None, None, Refusal.NO_FREE_SLOT]
    assert [start("quick", index) for index in range(3, 6)] == [None, None, Refusal.NO_FREE_SLOT]
    go_on.set()
    await runner.drain(5, 5)
