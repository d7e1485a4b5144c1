"""One link to the admin, from its welcome until it breaks: beats, orders, progress, reports."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import structlog

from executor.link.convert import assignment_of, attempt_of, key_of, log_lines_of, progress_of
from executor.link.outgoing import Outgoing, Pins, Reports
from executor.model import AttemptKey
from executor.running.runner import Runner
from protos.errors import Unreachable
from protos.executor.v1 import link_pb2 as pb

log = structlog.get_logger(__name__)

TELL_SECONDS = 0.5  # between two rounds of progress and log lines
PATIENCE = 0.6  # of a lease, with an admin that is silent while there are others
REPEAT_SECONDS = 10.0  # what was not answered for so long is said again


@dataclass(frozen=True, slots=True)
class Desk:
    """What lives on this side of every link."""

    runner: Runner
    outgoing: Outgoing
    pins: Pins
    reports: Reports
    drain: Callable[[], object]
    monotonic: Callable[[], float]  # seconds

    @property
    def held(self) -> list[AttemptKey]:
        """Running here, or ended and not accepted yet."""
        return list(dict.fromkeys((*self.runner.held, *self.reports.keys)))


class Link:
    """The conversation on one stream. `begun_at` is when its registration was sent.

    Where there are other admins, one that is silent is left in time to keep what is held with another one.
    """

    def __init__(
        self, desk: Desk, address: str, welcome: pb.Welcome, begun_at: float, *, are_others: bool = False
    ) -> None:
        self._desk = desk
        self.address = address
        self._lease = welcome.lease_ms / 1000
        self._period = welcome.beat_period_ms / 1000
        self._patience = self._lease * PATIENCE if are_others else self._lease + self._period
        self._confirmed_at = begun_at  # when the last accepted beat was sent
        self._beats: dict[int, tuple[float, Sequence[AttemptKey]]] = {}
        self._urged = asyncio.Event()
        self._answers: asyncio.Queue[Sequence[pb.ReportAnswer]] = asyncio.Queue()

    def begin(self) -> None:
        """Says what the last link may have swallowed."""
        self._desk.outgoing.clear()
        self._desk.reports.say_again()
        self._desk.pins.say_again()

    async def hear(self, responses: AsyncIterator[pb.ConnectResponse]) -> None:
        async for response in responses:
            self._take(response)
        raise Unreachable(address=self.address)

    async def keep_beating(self) -> None:
        """Extends the leases. Raises Unreachable when the admin has been silent for too long."""
        number = 0
        while True:
            number += 1
            held = self._desk.held
            self._beats[number] = (self._desk.monotonic(), held)
            beat = pb.Beat(
                number=number, held=[attempt_of(key) for key in held], draining=self._desk.runner.is_draining
            )
            self._desk.outgoing.say(pb.ConnectRequest(beat=beat))
            await _wait(self._urged, self._period)
            self._urged.clear()
            if self._desk.monotonic() - self._confirmed_at > self._patience:
                raise Unreachable(address=self.address)

    async def keep_telling(self) -> None:
        """Progress and log lines as they come; reports and pins again when they found no answer."""
        repeat_at = self._desk.monotonic() + REPEAT_SECONDS
        while True:
            await asyncio.sleep(TELL_SECONDS)
            if changed := self._desk.runner.take_progress():
                progress = [progress_of(key, counters) for key, counters in changed]
                self._desk.outgoing.say(pb.ConnectRequest(progress=pb.Progress(progress=progress)))
            if self._desk.outgoing.has_room:
                self._tell_lines()
            if self._desk.monotonic() >= repeat_at:
                repeat_at = self._desk.monotonic() + REPEAT_SECONDS
                self._desk.reports.say_again()
                self._desk.pins.say_again()

    async def keep_accepting(self) -> None:
        """Beside what is heard: an answer to a beat must not wait until the disk has forgotten outcomes."""
        while True:
            answers = list(await self._answers.get())
            while not self._answers.empty():
                answers += self._answers.get_nowait()
            await self._desk.reports.accept(answers)

    def said_before(self, request: pb.ConnectRequest) -> list[pb.ConnectRequest]:
        """What is to be written first: the last lines of attempts go before their reports. They are taken only then, so
        that none gets lost while no link stands."""
        if not request.HasField("report"):
            return []
        batches = [self._desk.runner.take_log_lines_of(key_of(each.attempt)) for each in request.report.outcomes]
        return [
            pb.ConnectRequest(log_lines=lines)
            for batch in batches
            if batch is not None
            for lines in log_lines_of(batch)
        ]

    def urge(self) -> None:
        """The next beat goes out now."""
        self._urged.set()

    def _tell_lines(self) -> None:
        """Not those whose report waits to be written: theirs would come behind it, when nobody takes them any more."""
        for batch in self._desk.runner.take_log_lines(set(self._desk.reports.keys)):
            for lines in log_lines_of(batch):
                self._desk.outgoing.say(pb.ConnectRequest(log_lines=lines))

    def _take(self, response: pb.ConnectResponse) -> None:
        runner = self._desk.runner
        match response.WhichOneof("kind"):
            case "beat_accepted":
                self._confirm(response.beat_accepted)
            case "assign":
                self._start(response.assign.assignments)
            case "cancel":
                runner.cancel(key_of(response.cancel.attempt), response.cancel.reason or "cancelled")
            case "lease_lost":
                runner.lose(key_of(response.lease_lost.attempt))
            case "drain":
                self._desk.drain()
            case "report_accepted":
                self._answers.put_nowait(response.report_accepted.answers)
            case "pinned":
                self._desk.pins.settle(response.pinned)
            case "welcome" | None:  # None: of a newer admin
                pass

    def _confirm(self, accepted: pb.BeatAccepted) -> None:
        sent_at, held = self._beats.pop(accepted.number, (None, ()))
        if sent_at is None:
            return
        self._beats = {number: beat for number, beat in self._beats.items() if number > accepted.number}
        self._confirmed_at = sent_at
        lost = {key_of(attempt) for attempt in accepted.lost}
        for key in lost:
            self._desk.runner.lose(key)
        self._desk.runner.extend((key for key in held if key not in lost), sent_at + self._lease)

    def _start(self, assignments: Sequence[pb.Assignment]) -> None:
        """A lease begins no later than the last beat that the admin has answered: this process may have been asleep
        since the assignment was sent.
        """
        accepted: list[pb.Attempt] = []
        for message in assignments:
            assignment = assignment_of(message)
            has_report = assignment.key in self._desk.reports.keys
            refusal = None if has_report else self._desk.runner.start(assignment, self._confirmed_at + self._lease)
            if refusal is None:
                accepted.append(message.attempt)
                continue
            log.info("refused", action="refused", attempt=str(assignment.key), code=refusal, handler=message.handler)
            refuse = pb.Refuse(attempt=message.attempt, code=refusal, message=f"executor: {refusal}")
            self._desk.outgoing.say(pb.ConnectRequest(refuse=refuse))
        if accepted:
            self._desk.outgoing.say(pb.ConnectRequest(accept=pb.Accept(attempts=accepted)))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Not by `asyncio.wait_for`: where the event is set as the waiter is cancelled, that swallows the latter."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
