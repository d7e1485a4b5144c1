"""An admin's side of the link that does as a test says, and remembers what it was told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from protos.errors import Unauthenticated
from protos.executor.v1 import link_pb2 as pb
from protos.executor.v1.link_pb2_grpc import LinkServiceServicer, add_LinkServiceServicer_to_server
from protos.server import Call, Listening, Service, serve

Key = tuple[str, int, int]  # run id, shard, term


def key_of(attempt: pb.Attempt) -> Key:
    return attempt.run_id, attempt.shard, attempt.term


@dataclass(slots=True)
class FakeAdmin(LinkServiceServicer):
    """Knows one executor at a time. Switches turn parts of it off, as if it had stopped in that moment."""

    lease_ms: int = 2_000
    beat_period_ms: int = 100
    token: str = ""
    welcomes: bool = True
    answers_beats: bool = True
    answers_reports: bool = True
    verdict: pb.Verdict = pb.VERDICT_ACCEPTED
    lost: set[Key] = field(default_factory=set)
    pins: dict[tuple[str, str], str] = field(default_factory=dict)
    registered: list[pb.Register] = field(default_factory=list)
    beats: list[pb.Beat] = field(default_factory=list)
    accepted: list[Key] = field(default_factory=list)
    refused: dict[Key, str] = field(default_factory=dict)
    outcomes: list[pb.Outcome] = field(default_factory=list)
    progress: list[pb.AttemptProgress] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # kinds, in the order in which they came
    _says: asyncio.Queue[pb.ConnectResponse | None] = field(default_factory=asyncio.Queue)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def Connect(  # noqa: N802 - grpc's name
        self, requests: AsyncIterator[pb.ConnectRequest], context: Call
    ) -> AsyncIterator[pb.ConnectResponse]:
        says = self._says = asyncio.Queue()
        listening = asyncio.create_task(self._listen(requests))
        try:
            while (response := await says.get()) is not None:
                yield response
        finally:
            listening.cancel()

    def say(self, response: pb.ConnectResponse) -> None:
        self._says.put_nowait(response)

    def close(self) -> None:
        """Ends the link in good order, as an admin that drains."""
        self._says.put_nowait(None)

    def assign(
        self,
        run_id: str,
        handler: str,
        *,
        shard: int = 0,
        term: int = 1,
        total: int = 1,
        attempt_number: int = 1,
        **more: object,
    ) -> Key:
        attempt = pb.Attempt(run_id=run_id, shard=shard, term=term)
        more = {"handler": handler, "total": total, "attempt_number": attempt_number, **more}
        assignment = pb.Assignment(attempt=attempt, job="job", **more)  # type: ignore[arg-type]
        self.say(pb.ConnectResponse(assign=pb.Assign(assignments=[assignment])))
        return run_id, shard, term

    async def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Waits until what the executor has said makes it true."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    async def outcome(self, key: Key, seconds: float = 10.0) -> pb.Outcome:
        """The first report of an attempt."""
        await self.until(lambda: any(key_of(outcome.attempt) == key for outcome in self.outcomes), seconds)
        return next(outcome for outcome in self.outcomes if key_of(outcome.attempt) == key)

    async def authorize(self, method: str, token: str) -> object:
        if token != self.token:
            raise Unauthenticated
        return token

    async def _listen(self, requests: AsyncIterator[pb.ConnectRequest]) -> None:
        async for request in requests:
            self._take(request)
            async with self._changed:
                self._changed.notify_all()

    def _take(self, request: pb.ConnectRequest) -> None:
        self.told.append(request.WhichOneof("kind") or "")
        match request.WhichOneof("kind"):
            case "register":
                self._take_register(request.register)
            case "beat":
                self.beats.append(request.beat)
                if self.answers_beats:
                    lost = [attempt for attempt in request.beat.held if key_of(attempt) in self.lost]
                    accepted = pb.BeatAccepted(number=request.beat.number, lost=lost)
                    self.say(pb.ConnectResponse(beat_accepted=accepted))
            case "accept":
                self.accepted += map(key_of, request.accept.attempts)
            case "refuse":
                self.refused[key_of(request.refuse.attempt)] = request.refuse.code
            case "progress":
                self.progress += request.progress.progress
            case "log_lines":
                self.lines += [line.text for line in request.log_lines.lines]
            case "report":
                self._take_report(request.report)
            case "pin":
                pin = request.pin
                value = self.pins.setdefault((pin.attempt.run_id, pin.name), pin.value)
                self.say(pb.ConnectResponse(pinned=pb.Pinned(attempt=pin.attempt, name=pin.name, value=value)))

    def _take_register(self, register: pb.Register) -> None:
        self.registered.append(register)
        if self.welcomes:
            welcome = pb.Welcome(lease_ms=self.lease_ms, beat_period_ms=self.beat_period_ms)
            self.say(pb.ConnectResponse(welcome=welcome))

    def _take_report(self, report: pb.Report) -> None:
        self.outcomes += report.outcomes
        if self.answers_reports:
            answers = [pb.ReportAnswer(attempt=outcome.attempt, verdict=self.verdict) for outcome in report.outcomes]
            self.say(pb.ConnectResponse(report_accepted=pb.ReportAccepted(answers=answers)))


@asynccontextmanager
async def serving(admin: FakeAdmin, port: int = 0) -> AsyncIterator[Listening]:
    service = Service("shardcast.executor.v1.LinkService", add_LinkServiceServicer_to_server, admin)
    async with serve("127.0.0.1", port, [service], authorize=admin.authorize, grace_seconds=0) as listening:
        yield listening
