"""Values that functions ask for: made for each call, closed behind it, whatever came of the call."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated

import pytest

from broker.client.message import Message
from executor.app import Executor
from executor.errors import BadHandler, Fail, Retry
from executor.model import OutcomeState
from executor.running.context import AsyncContext, Context
from executor.running.listening.calling import Caller
from executor.running.listening.verdicts import Done, Failed
from executor.testing import run_local
from shardcast import Depends
from tests.support.attempts import outcome_of
from tests.unit.executor.test_listening import a_message

pytestmark = pytest.mark.anyio

SEEN: list[str] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()


def value() -> int:
    return 1


def of_state(state: dict[str, int], bonus: int = 0) -> int:
    return state["x"] + bonus


@contextmanager
def managed(context: Context) -> Iterator[str]:
    SEEN.append("open")
    try:
        yield context.job
    except BaseException as error:
        SEEN.append(type(error).__name__)
        raise
    finally:
        SEEN.append("close")


def yielding() -> Iterator[str]:
    SEEN.append("second")
    yield "y"
    SEEN.append("second closed")


async def awaited() -> int:
    await asyncio.sleep(0)
    return 3


class Connecting:
    async def __call__(self) -> int:
        return 5


class Lending:
    def __call__(self) -> Iterator[int]:
        yield 6
        SEEN.append("lent no more")


async def test_an_object_that_can_be_called_is_a_provider_of_the_kind_that_its_call_is() -> None:
    app = Executor("group")

    @app.job("handler")
    async def handler(
        five: Annotated[int, Depends(Connecting())], six: Annotated[int, Depends(Lending())]
    ) -> list[int]:
        return [five, six]

    assert (await outcome_of(app)).result == "[5,6]"
    assert SEEN == ["lent no more"]


@asynccontextmanager
async def async_managed() -> AsyncIterator[int]:
    yield 4
    SEEN.append("async closed")


@contextmanager
def swallowing() -> Iterator[None]:
    try:
        yield
    except ValueError:
        return


async def test_a_plain_handler_gets_what_plain_providers_give() -> None:
    app = Executor("group")

    @app.job("handler")
    def handler(
        params: int,
        one: Annotated[int, Depends(value)],
        two: Annotated[int, Depends(of_state)],
        job: Annotated[str, Depends(managed)],
        more: Annotated[str, Depends(yielding)] = "",
    ) -> object:
        SEEN.append("handler")
        return [params, one, two, job, more]

    outcome = await outcome_of(app, params="7", state={"x": 2})
    assert outcome.result == '[7,1,2,"job","y"]'
    assert SEEN == ["open", "second", "handler", "second closed", "close"]


async def test_an_async_handler_gets_what_all_kinds_of_providers_give() -> None:
    app = Executor("group")

    @app.job("handler")
    async def handler(
        context: AsyncContext,
        three: Annotated[int, Depends(awaited)],
        four: Annotated[int, Depends(async_managed)],
        job: Annotated[str, Depends(managed)],
    ) -> object:
        return [three, four, job, context.state]

    outcome = await outcome_of(app, state="s")
    assert outcome.result == '[3,4,"job","s"]'
    assert SEEN == ["open", "close", "async closed"]


@pytest.mark.parametrize(("error", "code"), [(ValueError("x"), "ValueError"), (Retry(), "retry"), (Fail("x"), "fail")])
async def test_a_provider_hears_how_the_handler_ended(error: Exception, code: str) -> None:
    app = Executor("group")

    @app.job("handler")
    def handler(job: Annotated[str, Depends(managed)]) -> None:
        raise error

    assert (await outcome_of(app)).error_code == code
    assert ["open", type(error).__name__, "close"] == SEEN


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_error_that_a_provider_swallows_is_a_failure_all_the_same(is_async: bool) -> None:
    app = Executor("group")

    def plain(nothing: Annotated[None, Depends(swallowing)]) -> None:
        raise ValueError

    async def coroutine(nothing: Annotated[None, Depends(swallowing)]) -> None:
        raise ValueError

    app.job("handler")(coroutine if is_async else plain)
    outcome = await outcome_of(app)
    assert (outcome.state, outcome.error_code) == (OutcomeState.FAILED, "bad_handler")


async def test_listeners_get_values_too() -> None:
    app = Executor("group")

    @app.consumer("t", group="g")
    def plain(message: Message, x: Annotated[int, Depends(of_state)]) -> None:
        SEEN.append(f"{message.body!r} {x}")

    @app.consumer("t", group="h")
    async def coroutine(messages: list[Message], *, four: Annotated[int, Depends(async_managed)]) -> None:
        raise ValueError(four)

    first, second = (Caller(listener, {"x": 5}) for listener in app.registry.listeners)
    assert await first.call([a_message(0)], lambda: False) == Done()
    assert await second.call([a_message(0)], lambda: False) == Failed("ValueError: 4")
    assert SEEN == ["b'x' 5"]


def test_a_handler_with_providers_can_be_run_alone_and_called_as_a_function() -> None:
    def handler(params: int, one: Annotated[int, Depends(value)]) -> int:
        return params + one

    assert run_local(handler, 2).result == 3
    assert handler(2, 5) == 7


def taking_more(other: int) -> int:
    return other


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        (awaited, "async, which is for async functions"),
        (async_managed, "async, which is for async functions"),
        (taking_more, "takes 'other'; there is context and state"),
    ],
)
def test_a_provider_that_cannot_be_called_here_is_refused(provider: Callable[..., object], told: str) -> None:
    def handler(x: Annotated[object, Depends(provider)]) -> None: ...

    with pytest.raises(BadHandler, match=told):
        Executor("group").job("handler")(handler)


def test_a_listener_has_no_context_to_give() -> None:
    def listener(message: Message, x: Annotated[object, Depends(managed)]) -> None: ...

    with pytest.raises(BadHandler, match="takes 'context'; there is state"):
        Executor("group").consumer("t", group="g")(listener)
