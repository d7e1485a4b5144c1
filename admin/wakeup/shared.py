"""Bells that ring in every admin: here at once, elsewhere as soon as a carrier brings the news.

A carrier that is away costs time, never a ring that matters: every loop also looks by itself.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, suppress
from typing import Protocol

import structlog

from admin.ports import Bell
from admin.wakeup.local import LocalWakeup

log = structlog.get_logger(__name__)

SHARED = frozenset({"planner", "dispatcher"})
"""Bells that matter elsewhere. Those of runs stay here: there may be thousands a second, and who watches a run looks
again each second anyway."""

GATHER_SECONDS = 0.01  # between two messages; what rings meanwhile goes together
ANSWER_SECONDS = 5.0  # for a carrier to connect, or to take a message
SILENT_SECONDS = 20.0  # an admin hears its own beats: a carrier that brings nothing for so long is lost
FIRST_WAIT_SECONDS = 0.1
MAX_WAIT_SECONDS = 5.0


class Connection(Protocol):
    """What one admin says, all hear, that one too."""

    async def send(self, message: str) -> None: ...

    def received(self) -> AsyncIterator[str]: ...


class Carrier(Protocol):
    """Brings short messages to every admin of an installation. May raise anything."""

    def connect(self) -> AbstractAsyncContextManager[Connection]: ...


class SharedWakeup:
    """Implements Wakeup. `run` keeps it connected; without it, or while it tries, bells ring in this process alone."""

    def __init__(
        self,
        carrier: Carrier,
        *,
        silent_seconds: float = SILENT_SECONDS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._carrier = carrier
        self._silent_seconds = silent_seconds
        self._chance = chance
        self._own_id = uuid.uuid4().hex
        self._local = LocalWakeup()
        self._unsent: set[str] = set()  # of SHARED, so it cannot grow
        self._news = asyncio.Event()
        self._is_away = False

    def ring(self, bell: str) -> None:
        self._local.ring(bell)
        if bell in SHARED:
            self._unsent.add(bell)
            self._news.set()

    def listen(self, bell: str) -> AbstractContextManager[Bell]:
        return self._local.listen(bell)

    async def run(self) -> None:
        """Connects again and again until cancelled."""
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                await self._converse()
            except Exception as error:  # whatever befalls the carrier, the loops go on
                wait = wait if self._is_away else FIRST_WAIT_SECONDS
                self._complain(error)
            await asyncio.sleep(wait * (0.5 + self._chance() / 2))
            wait = min(wait * 2, MAX_WAIT_SECONDS)

    async def _converse(self) -> None:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = await stack.enter_async_context(self._carrier.connect())
            log.info("wake-ups are shared", action="wakeup_shared")
            self._is_away = False
            for bell in SHARED:  # somebody may have rung meanwhile
                self._local.ring(bell)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_sending(connection))
                group.create_task(self._keep_hearing(connection))

    async def _keep_sending(self, connection: Connection) -> None:
        """What rang, and a beat when nothing did."""
        while True:
            await self._send(connection)
            await asyncio.sleep(GATHER_SECONDS)
            if not self._unsent:
                self._news.clear()
                with suppress(TimeoutError):  # not wait_for, which may swallow that it is cancelled
                    async with asyncio.timeout(self._silent_seconds / 2):
                        await self._news.wait()

    async def _send(self, connection: Connection) -> None:
        bells, self._unsent = self._unsent, set()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await connection.send(" ".join((self._own_id, *bells)))
        except BaseException:
            self._unsent |= bells
            raise

    async def _keep_hearing(self, connection: Connection) -> None:
        """Raises TimeoutError when not even the own beats come."""
        messages = aiter(connection.received())
        while True:
            async with asyncio.timeout(self._silent_seconds):
                message = await anext(messages)
            sender, *bells = message.split(" ")
            if sender != self._own_id:
                for bell in SHARED.intersection(bells):
                    self._local.ring(bell)

    def _complain(self, error: Exception) -> None:
        """Once until it is connected again."""
        if not self._is_away:
            self._is_away = True
            log.warning("wake-ups are not shared", action="wakeup_not_shared", error=_told(error))


def _told(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
