"""What is waiting to be said to the admin, and what is said again on every new link until it is answered."""

import asyncio
from collections.abc import Sequence

import structlog

from executor.errors import Cancelled
from executor.link.convert import attempt_of, key_of, outcome_of
from executor.link.outbox import Outbox
from executor.model import AttemptKey, Outcome
from protos.errors import ShardcastError
from protos.executor.v1 import link_pb2 as pb

log = structlog.get_logger(__name__)

MAX_WAITING = 32  # requests, beyond which no log lines are added


SETTLING = (pb.VERDICT_ACCEPTED, pb.VERDICT_SUPERSEDED)
"""Answers behind which an outcome need not be kept."""


class Outgoing:
    """Requests for the link that stands; what is said while none does is not kept."""

    def __init__(self) -> None:
        self._requests: asyncio.Queue[pb.ConnectRequest] = asyncio.Queue()

    def say(self, request: pb.ConnectRequest) -> None:
        self._requests.put_nowait(request)

    async def next(self) -> pb.ConnectRequest:
        return await self._requests.get()

    @property
    def has_room(self) -> bool:
        """Whether the link keeps up: if not, what may wait does so elsewhere, within its bounds."""
        return self._requests.qsize() < MAX_WAITING

    def clear(self) -> None:
        """A new link begins."""
        while not self._requests.empty():
            self._requests.get_nowait()


class Pins:
    """Values proposed for runs; a proposal waits over as many links as it takes."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._waiting: dict[tuple[AttemptKey, str], tuple[pb.Pin, asyncio.Future[str]]] = {}

    async def propose(self, attempt: AttemptKey, name: str, value: str) -> str:
        """The value that the run keeps. Raises Cancelled if the attempt is not held any more."""
        pin = pb.Pin(attempt=attempt_of(attempt), name=name, value=value)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[attempt, name] = (pin, answer)
        self._outgoing.say(pb.ConnectRequest(pin=pin))
        try:
            return await answer
        finally:
            del self._waiting[attempt, name]

    def settle(self, pinned: pb.Pinned) -> None:
        _, answer = self._waiting.get((key_of(pinned.attempt), pinned.name), (None, None))
        if answer is None or answer.done():
            return
        if pinned.lost:
            answer.set_exception(Cancelled(reason="its lease was lost"))
        else:
            answer.set_result(pinned.value)

    def say_again(self) -> None:
        for pin, _ in self._waiting.values():
            self._outgoing.say(pb.ConnectRequest(pin=pin))


class Reports:
    """Outcomes on their way: on disk first, then said until the admin has accepted them."""

    def __init__(self, outbox: Outbox, outgoing: Outgoing) -> None:
        self._outbox = outbox
        self._outgoing = outgoing
        self._disk = asyncio.Lock()
        self._changed = asyncio.Condition()

    @property
    def keys(self) -> list[AttemptKey]:
        return [key_of(outcome.attempt) for outcome in self._outbox.outcomes]

    async def deliver(self, outcome: Outcome) -> None:
        """Returns when the outcome is durable here."""
        message = outcome_of(outcome)
        try:
            async with self._disk:
                await asyncio.to_thread(self._outbox.add, message)
        except ShardcastError as error:
            log.error("outcome not on disk", action="outbox_failed", attempt=str(outcome.key), error=str(error))
        self._say([message])

    async def accept(self, answers: Sequence[pb.ReportAnswer]) -> None:
        """The admin has them; what was superseded has changed nothing there. Waits for the disk."""
        settled = [answer for answer in answers if answer.verdict in SETTLING]
        for answer in settled:
            verdict = pb.Verdict.Name(answer.verdict)
            log.info("report answered", action="report_answered", attempt=str(key_of(answer.attempt)), verdict=verdict)
        async with self._disk:
            await asyncio.to_thread(self._remove, [key_of(answer.attempt) for answer in settled])
        async with self._changed:
            self._changed.notify_all()

    def _remove(self, keys: Sequence[AttemptKey]) -> None:
        for key in keys:
            self._outbox.remove(key)

    def say_again(self) -> None:
        self._say(self._outbox.outcomes)

    async def emptied(self) -> None:
        """Returns when nothing waits for the admin."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._outbox.outcomes)

    def _say(self, outcomes: Sequence[pb.Outcome]) -> None:
        for outcome in outcomes:
            self._outgoing.say(pb.ConnectRequest(report=pb.Report(outcomes=[outcome])))
