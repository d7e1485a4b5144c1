"""What an app does around each call of a handler: functions of the context and of the rest of the way."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from executor.errors import Cancelled, Fail, MiddlewareFailed, Retry, Skip, line_of
from executor.registry import Middleware
from executor.running.isolation import in_thread

Call = Callable[[], Awaitable[object]]


def around(layers: Sequence[Middleware], context: object, call: Call) -> Call:
    """The call with all layers around it, the first one outermost."""
    for layer in reversed(layers):
        call = partial(_through, layer, context, call)
    return call


async def _through(layer: Middleware, context: object, call: Call) -> object:
    """Raises what the rest raised, the three words, and MiddlewareFailed for what is the layer's own."""
    rest = _Rest(call)
    try:
        if layer.is_async:
            return await layer.function(context, rest)  # type: ignore[misc]  # of a coroutine function
        return await _in_thread(layer, context, rest)
    except (Retry, Fail, Skip, Cancelled):
        raise
    except Exception as error:
        if error is rest.error:
            raise
        raise MiddlewareFailed(name=layer.name, reason=line_of(error)) from error


class _Rest:
    """What is behind a layer; remembers what that raised."""

    def __init__(self, call: Call) -> None:
        self.error: Exception | None = None
        self._call = call
        self._is_called = False

    async def __call__(self) -> object:
        if self._is_called:
            raise RuntimeError("call_next may be called once")
        self._is_called = True
        try:
            return await self._call()
        except Exception as error:
            self.error = error
            raise


async def _in_thread(layer: Middleware, context: object, rest: _Rest) -> object:
    """A plain layer; cancelled, it hears so from the rest."""
    loop, inside = asyncio.get_running_loop(), _Inside(rest)

    def call_next() -> object:
        return asyncio.run_coroutine_threadsafe(inside.run(), loop).result()

    working = in_thread(partial(layer.function, context, call_next), layer.name)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        inside.cancel()
        await asyncio.wait((working,))
        raise


class _Inside:
    """The rest as a task that can be cancelled, also before it has begun. Belongs to the loop."""

    def __init__(self, rest: _Rest) -> None:
        self._rest = rest
        self._task: asyncio.Task[object] | None = None
        self._is_cancelled = False

    async def run(self) -> object:
        self._task = asyncio.current_task()
        if self._is_cancelled:
            raise asyncio.CancelledError
        return await self._rest()

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()
