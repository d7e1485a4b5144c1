"""Where handlers run: coroutines in the daemon's loop, plain functions in a thread of their own."""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from executor.errors import CalledInLoop, line_of

T = TypeVar("T")


def in_thread(function: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Runs a function in a new thread with a copy of the caller's context variables.

    The thread does not keep the process alive: a drain that is over must not wait for a handler that is stuck.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting any more
    context = contextvars.copy_context()

    def tell(settle: Callable[..., None], value: object) -> None:
        if not future.done():
            settle(value)

    def work() -> None:
        try:
            told: tuple[Callable[..., None], object] = (future.set_result, context.run(function))
        except BaseException as error:
            told = (future.set_exception, harmless(error))
        with suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(tell, *told)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future


def harmless(error: BaseException) -> Exception:
    """The error as one that can pass through the loop: a handler that calls sys.exit() ends itself, not the daemon."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failure = RuntimeError(f"the handler raised {line_of(error)}")
    failure.__cause__ = error
    return failure


async def contained(awaitable: Awaitable[T]) -> T:
    """Awaits what a user wrote: what would end the loop, or pass for an order to this task, comes out harmless."""
    try:
        return await awaitable
    except (Exception, GeneratorExit):  # the latter says that nobody waits any more
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        raise harmless(error) from error


class Portal:
    """Lets a handler's thread wait for what happens in the daemon's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __call__(self, coroutine: Coroutine[None, None, T]) -> T:
        """Raises CalledInLoop where waiting would stop the loop for good, and all that runs in it."""
        if asyncio._get_running_loop() is self._loop:
            coroutine.close()
            raise CalledInLoop
        return self.start(coroutine).result()

    def start(self, coroutine: Coroutine[None, None, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
