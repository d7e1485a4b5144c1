"""Calls a listener's function, and judges what came of it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from broker.client.message import ReceivedMessage
from executor.errors import Fail, Retry, Skip, line_of
from executor.registry import Listener
from executor.running.isolation import contained, in_thread

log = structlog.get_logger(__name__)

MAX_ERROR_CHARACTERS = 1_000

Messages = Sequence[ReceivedMessage]


@dataclass(frozen=True, slots=True)
class Done:
    """The messages are handled."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The function raised: which message it was is not known yet where there are several."""

    error: str


@dataclass(frozen=True, slots=True)
class Again:
    """The function asks to get the same messages again; `after` None: as the group's policy says."""

    error: str
    after: timedelta | None


@dataclass(frozen=True, slots=True)
class Hopeless:
    """The function says that another try is of no use."""

    error: str


Verdict = Done | Failed | Again | Hopeless


def verdict_of(outcome: object) -> Verdict:
    """Of what the function returned or raised: Retry, Fail and Skip may be either."""
    match outcome:
        case Retry():
            return Again(str(outcome), outcome.after)
        case Fail():
            return Hopeless(str(outcome))
        case Skip():
            return Done()
        case BaseException():
            return Failed(_told(outcome))
        case _:
            return Done()


def is_narrowed(messages: Messages, verdict: Verdict) -> bool:
    """Whether the halves are to be tried, so that one bad message does not take the others along."""
    return len(messages) > 1 and isinstance(verdict, Failed | Hopeless)


def halves(messages: Messages) -> tuple[Messages, Messages]:
    middle = len(messages) // 2
    return messages[:middle], messages[middle:]


class Caller:
    """Calls a listener, at most as many calls side by side as it has slots."""

    def __init__(self, listener: Listener, state: object = None) -> None:
        self._listener = listener
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
                return verdict_of(await self._run(messages))
            except Exception as error:
                verdict = verdict_of(error)
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


def _told(error: BaseException) -> str:
    return line_of(error)[:MAX_ERROR_CHARACTERS]
