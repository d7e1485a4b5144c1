"""What an app does around its handlers' calls, and whose fault it is when that fails."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from broker.client import Message
from executor.app import Executor
from executor.errors import BadHandler, Fail, Retry, Skip
from executor.model import OutcomeState
from executor.running.cancellation import Why
from executor.running.context import Context
from tests.support import process_app
from tests.support.attempts import attempt_of, outcome_of
from tests.support.processes import is_gone, until

pytestmark = pytest.mark.anyio

Next = Callable[[], object]
AsyncNext = Callable[[], Awaitable[object]]


def app_with(seen: list[str], *, is_async: bool) -> Executor:
    """An async layer outside, a plain one inside, and a handler that is told what the layers did."""
    app = Executor("group")

    @app.middleware
    async def outer(context: Context, call_next: AsyncNext) -> object:
        seen.append(f"outer {context.job}")
        try:
            return await call_next()
        finally:
            seen.append("outer ends")

    @app.middleware
    def inner(context: Context, call_next: Next) -> object:
        seen.append("inner")
        result = call_next()
        seen.append("inner ends")
        return [result]

    def plain(params: str) -> str:
        seen.append("handler")
        return params

    async def coroutine(params: str) -> str:
        return plain(params)

    app.job("handler")(coroutine if is_async else plain)
    return app


@pytest.mark.parametrize("is_async", [False, True])
async def test_layers_stand_around_the_handler_in_their_order_whatever_it_is(is_async: bool) -> None:
    seen: list[str] = []
    outcome = await outcome_of(app_with(seen, is_async=is_async), params='"x"')
    assert outcome.result == '["x"]'
    assert seen == ["outer job", "inner", "handler", "inner ends", "outer ends"]


async def test_layers_stand_around_a_handler_with_a_process_of_its_own() -> None:
    app = Executor("group")
    app.job("handler", isolation="process")(process_app.see)

    @app.middleware
    def inner(context: Context, call_next: Next) -> object:
        result = call_next()
        assert isinstance(result, dict)
        return result["shard"]

    outcome = await outcome_of(app, params='{"a": 1}')
    assert outcome.result == "[0,1]"


def failing(where: str) -> Executor:
    app = Executor("group")

    @app.middleware
    async def whole(context: Context, call_next: AsyncNext) -> object:
        return await call_next()

    @app.middleware
    def bad(context: Context, call_next: Next) -> object:
        if where == "before":
            raise KeyError("sesame")
        call_next()
        if where == "twice":
            call_next()
        raise KeyError("sesame")

    app.job("handler", retry_on=OSError)(lambda: None)
    return app


@pytest.mark.parametrize(
    ("where", "told"), [("before", "KeyError: 'sesame'"), ("after", "KeyError: 'sesame'"), ("twice", "called once")]
)
async def test_an_error_of_a_middleware_fails_the_attempt_and_names_it(where: str, told: str) -> None:
    outcome = await outcome_of(failing(where))
    assert (outcome.state, outcome.error_code) == (OutcomeState.FAILED, "middleware_failed")
    assert ".bad failed: " in outcome.error_message
    assert told in outcome.error_message
    assert outcome.is_retryable, "what its author said is about the handler's own errors"
    assert "test_middleware" in outcome.traceback


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (ValueError("x"), OutcomeState.FAILED, "ValueError"),
        (Retry("x"), OutcomeState.FAILED, "retry"),
        (Skip("x"), OutcomeState.SKIPPED, "skip"),
    ],
)
async def test_what_the_handler_raised_passes_through_as_it_is(
    error: Exception, state: OutcomeState, code: str
) -> None:
    seen: list[str] = []
    app = app_with(seen, is_async=True)

    @app.job("raising")
    def raising() -> None:
        raise error

    outcome = await outcome_of(app, "raising")
    assert (outcome.state, outcome.error_code) == (state, code)
    assert seen == ["outer job", "inner", "outer ends"]


@pytest.mark.parametrize(
    ("error", "state"), [(Skip("closed"), OutcomeState.SKIPPED), (Fail("closed"), OutcomeState.FAILED)]
)
async def test_a_middleware_may_answer_in_place_of_the_handler(error: Exception, state: OutcomeState) -> None:
    app = Executor("group")

    @app.middleware
    async def closed(context: Context, call_next: AsyncNext) -> object:
        raise error

    app.job("handler")(lambda: pytest.fail("it is not called"))
    outcome = await outcome_of(app)
    assert (outcome.state, outcome.error_message.endswith("closed")) == (state, True)


async def test_an_order_to_stop_reaches_an_async_handler_through_all_layers() -> None:
    seen: list[str] = []
    app, began = app_with(seen, is_async=True), asyncio.Event()

    @app.job("waiting")
    async def waiting() -> None:
        began.set()
        await asyncio.Event().wait()

    attempt = attempt_of(app, "waiting")
    running = asyncio.create_task(attempt.run())
    await began.wait()
    attempt.cancellation.request(Why.CANCELLED, "by hand")
    outcome = await running
    assert outcome is not None
    assert (outcome.state, seen[-1]) == (OutcomeState.CANCELLED, "outer ends")
    assert not any(thread.name.endswith("inner") for thread in threading.enumerate())


async def test_an_order_to_stop_kills_a_process_through_a_plain_layer() -> None:
    app = Executor("group")
    app.job("handler", isolation="process")(process_app.watch)
    app.middleware(lambda context, call_next: call_next())
    attempt = attempt_of(app)
    running = asyncio.create_task(attempt.run())
    await until(lambda: attempt.log.has_news)
    attempt.cancellation.request(Why.CANCELLED, "by hand")
    outcome = await running
    assert outcome is not None
    assert outcome.state is OutcomeState.CANCELLED
    assert attempt._process is not None
    assert is_gone(attempt._process.pid or 0)


def test_a_middleware_takes_the_context_and_the_rest_of_the_way() -> None:
    with pytest.raises(BadHandler, match="context and call_next"):
        Executor("group").middleware(lambda context: None)


async def test_a_plain_handlers_context_that_is_asked_in_the_loop_is_an_error_and_no_standstill() -> None:
    app = Executor("group")

    @app.middleware
    async def announcing(context: Context, call_next: AsyncNext) -> object:
        with context.publisher("t") as publisher:
            publisher.publish([Message(b"")])
        return await call_next()

    app.job("handler")(lambda: None)
    outcome = await outcome_of(app)
    assert outcome.error_code == "middleware_failed"
    assert "CalledInLoop" in outcome.error_message


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_handler_does_not_begin_once_its_attempt_is_to_stop(is_async: bool) -> None:
    app, seen, begun, go_on = Executor("group"), [], asyncio.Event(), asyncio.Event()

    @app.middleware
    async def slow(context: Context, call_next: AsyncNext) -> object:
        begun.set()
        await go_on.wait()
        return await call_next()

    def plain() -> None:
        seen.append("handler")

    async def coroutine() -> None:
        seen.append("handler")

    app.job("handler")(coroutine if is_async else plain)
    attempt = attempt_of(app)
    running = asyncio.create_task(attempt.run())
    await begun.wait()
    attempt.cancellation.request(Why.RELEASED, "the executor drains")
    go_on.set()
    outcome = await running
    assert outcome is not None
    assert (outcome.state, seen) == (OutcomeState.RELEASED, [])
