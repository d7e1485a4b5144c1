"""Calls a listener's function, and judges what came of it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import cast

import structlog

from executor.registry import Function, Listener
from executor.running.isolation import contained, in_thread
from executor.running.listening.verdicts import Failed, Messages, Verdict, verdict_of, verdict_on

log = structlog.get_logger(__name__)


class Caller:
    """Calls a listener, at most as many calls side by side as it has slots."""

    def __init__(self, listener: Listener, state: object = None) -> None:
        self._listener = replace(listener, function=_judged(listener))
        self._state = state
        self._slots = asyncio.Semaphore(listener.slots)

    def portions(self, messages: Messages) -> list[Messages]:
        """What goes into one call each."""
        return [[message] for message in messages] if self._listener.takes_one else [list(messages)]

    async def call(self, messages: Messages, is_stopping: Callable[[], bool]) -> Verdict | None:
        """Waits for a free slot; None if the order to stop came before it was called."""
        async with self._slots:
            if is_stopping():
                return None
            try:
                returned = await self._run(messages)
                assert isinstance(returned, Verdict)
                return returned
            except Exception as error:
                verdict = verdict_on(error)
                if isinstance(verdict, Failed):
                    self._tell(messages, error)
                return verdict

    async def _run(self, messages: Messages) -> object:
        listener = self._listener
        given = messages[0] if listener.takes_one else list(messages)
        if not listener.is_async:
            return await in_thread(partial(listener.call, given, self._state), name=listener.group)
        returned = listener.call(given, self._state)
        return await contained(returned) if isinstance(returned, Awaitable) else returned

    def _tell(self, messages: Messages, error: Exception) -> None:
        first = messages[0]
        log.error(
            "listener failed",
            action="listener_failed",
            group=self._listener.group,
            topic=first.topic,
            queue=first.queue,
            offset=first.offset,
            messages=len(messages),
            error_code=type(error).__name__,
            exc_info=error,
        )


def _judged(listener: Listener) -> Function:
    """The function, with a verdict on what it returns: a generator runs where the function does."""
    function, one, publishes = listener.function, listener.takes_one, listener.to is not None

    def judged(given: Messages, **more: object) -> Verdict:
        count = 1 if one else len(given)
        return verdict_of(function(given, **more), count, publishes=publishes)

    async def judged_async(given: Messages, **more: object) -> Verdict:
        count = 1 if one else len(given)
        returned = await cast("Coroutine[None, None, object]", function(given, **more))
        return verdict_of(returned, count, publishes=publishes)

    return judged_async if listener.is_async else judged
