"""The service that executors dial: one stream each, register first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import grpc.aio
import structlog

from admin.dispatch import convert
from admin.dispatch.grpc_session import Session, Sessions
from admin.dispatch.inbox import Inbox
from admin.domain.errors import Unstorable
from admin.domain.names import ExecutorId, Group, HandlerName
from admin.domain.run import REFUSAL_PAUSE
from admin.operations.access import check_group
from admin.operations.attempts import Attempts, Beat
from admin.operations.logs.buffer import LogBuffer
from admin.ports import Clock, Executor, Token, Wakeup
from protos.errors import InvalidArgument, Unauthenticated
from protos.executor.v1 import link_pb2 as pb
from protos.executor.v1 import link_pb2_grpc
from protos.server import principal

log = structlog.get_logger(__name__)

Requests = AsyncIterator[pb.ConnectRequest]
Responses = AsyncIterator[pb.ConnectResponse]
BEATS_A_LEASE = 3
MAX_HANDLERS = 1_000
MAX_SLOTS = 100_000
MAX_PIN_NAME = 150
REST = 2 * REFUSAL_PAUSE  # of who refused, so that the shard finds another one first
_MS = timedelta(milliseconds=1)


class LinkService(link_pb2_grpc.LinkServiceServicer):
    """Turns what executors say into operations, and answers. An attempt lives for `lease` behind the last beat."""

    def __init__(
        self,
        sessions: Sessions,
        attempts: Attempts,
        logs: LogBuffer,
        wakeup: Wakeup,
        clock: Clock,
        *,
        lease: timedelta,
    ) -> None:
        self._sessions = sessions
        self._attempts = attempts
        self._logs = logs
        self._wakeup = wakeup
        self._clock = clock
        self._lease = lease

    async def Connect(  # noqa: N802
        self, request_iterator: Requests, context: grpc.aio.ServicerContext[pb.ConnectRequest, pb.ConnectResponse]
    ) -> Responses:
        session = await self._register(request_iterator)
        ids = {"executor_id": session.executor.id, "executor": session.executor.name, "group": session.executor.group}
        self._sessions.open(session)
        reading = asyncio.create_task(self._read(session, request_iterator))
        log.info("executor connected", action="executor_connected", **ids)
        self._wakeup.ring("dispatcher")
        try:
            async for message in session.messages():
                yield message
        finally:
            self._sessions.close(session)
            reading.cancel()
            log.info("executor disconnected", action="executor_disconnected", **ids)

    async def _register(self, requests: Requests) -> Session:
        """Raises InvalidArgument, PermissionDenied."""
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("kind") != "register":
            raise InvalidArgument(reason="the first message of a link is register")
        register = first.register
        token = principal.get(None)
        if not isinstance(token, Token):
            raise Unauthenticated
        check_group(token, Group(register.group))
        session = Session(self._executor_of(register))
        held = [convert.attempt_of(attempt) for attempt in register.held]
        beat = await self._attempts.beat(session.executor, held)
        session.tell(self._welcome())
        session.hold(beat.handlers)
        for attempt in beat.lost:
            session.tell(convert.lost_message(attempt))
        _tell_cancelled(session, beat)
        return session

    def _executor_of(self, register: pb.Register) -> Executor:
        _check(register)
        now = self._clock()
        schemas = convert.schemas_of(register)
        if left_out := sum(bool(handler.params_schema) for handler in register.handlers) - len(schemas):
            log.warning("schemas left out", action="schemas_left_out", executor=register.name[:255], count=left_out)
        return Executor(
            id=ExecutorId(register.executor_id),
            name=register.name[:255] or register.executor_id,
            group=Group(register.group),
            handlers=frozenset(HandlerName(handler.name) for handler in register.handlers),
            slots=min(register.slots, MAX_SLOTS),
            used=0,
            is_draining=register.draining,
            version=register.version[:64],
            connected_at=now,
            seen_at=now,
            schemas=schemas,
            limits=convert.limits_of(register),
        )

    def _welcome(self) -> pb.ConnectResponse:
        lease_ms = self._lease // _MS
        return pb.ConnectResponse(welcome=pb.Welcome(lease_ms=lease_ms, beat_period_ms=lease_ms // BEATS_A_LEASE))

    async def _read(self, session: Session, requests: Requests) -> None:
        """Ends the session when the executor does, or when it says what cannot be understood."""
        beats, others = Inbox(), Inbox()  # a beat only extends, and must not wait behind what the database is busy with
        handling = [asyncio.create_task(self._handle(session, inbox)) for inbox in (beats, others)]
        try:
            async for request in requests:
                is_beat = request.WhichOneof("kind") == "beat"
                if is_beat:  # alone: who seems alive for longer than its leases last gets back what it let lapse
                    session.see(self._clock())
                await (beats if is_beat else others).put(request)
            await beats.close()
            await others.close()
            await asyncio.gather(*handling)
        except Exception as error:  # told to the executor, whose stream it ends
            session.end(error)
        finally:
            for task in handling:
                task.cancel()
            self._sessions.close(session)

    async def _handle(self, session: Session, inbox: Inbox) -> None:
        """Ends the session when it cannot go on."""
        try:
            async for request in inbox:
                await self._on_request(session, request)
        except Exception as error:  # told to the executor, whose stream it ends
            session.end(error)
            inbox.drop()

    async def _on_request(self, session: Session, request: pb.ConnectRequest) -> None:
        match request.WhichOneof("kind"):
            case "beat":
                await self._on_beat(session, request.beat)
            case "accept":
                attempts = [convert.attempt_of(attempt) for attempt in request.accept.attempts]
                _tell_cancelled(session, await self._attempts.beat(session.executor, attempts))
            case "refuse":
                await self._on_refuse(session, request.refuse)
            case "progress":
                await self._on_progress(session, request.progress)
            case "log_lines":
                self._on_log_lines(session, request.log_lines)
            case "report":
                await self._on_report(session, request.report)
            case "pin":
                await self._on_pin(session, request.pin)
            case kind:
                raise InvalidArgument(reason=f"{kind} is not understood here")

    async def _on_beat(self, session: Session, beat: pb.Beat) -> None:
        held = [convert.attempt_of(attempt) for attempt in beat.held]
        session.drain(beat.draining)
        answer = await self._attempts.beat(session.executor, held)
        if any([session.name(held), session.free(answer.lost)]):
            self._wakeup.ring("dispatcher")
        lost = [convert.attempt_message(attempt) for attempt in answer.lost]
        session.tell(pb.ConnectResponse(beat_accepted=pb.BeatAccepted(number=beat.number, lost=lost)))
        _tell_cancelled(session, answer)

    async def _on_refuse(self, session: Session, refuse: pb.Refuse) -> None:
        attempt = convert.attempt_of(refuse.attempt)
        log.info("refused", action="refused", run_id=attempt.run_id, shard=attempt.index, code=refuse.code)
        await self._attempts.refuse(session.executor, attempt)
        session.refuse(attempt, self._clock() + REST)
        self._wakeup.ring("dispatcher")

    async def _on_progress(self, session: Session, progress: pb.Progress) -> None:
        counters = {convert.attempt_of(item.attempt): convert.counters_of(item.counters) for item in progress.progress}
        await self._attempts.progress(session.executor, counters)

    def _on_log_lines(self, session: Session, message: pb.LogLines) -> None:
        """Those of attempts that this executor holds; they come before the report."""
        attempt = convert.attempt_of(message.attempt)
        if session.holds(attempt):
            number = min(message.attempt_number, convert.MAX_COUNT)
            dropped = min(message.dropped, convert.MAX_COUNT)
            self._logs.add(attempt, number, convert.lines_of(message), dropped)

    async def _on_report(self, session: Session, report: pb.Report) -> None:
        """The end of a log is stored before its attempt ends."""
        outcomes = [convert.outcome_of(outcome) for outcome in report.outcomes]
        await self._logs.finish([outcome.attempt for outcome in outcomes if session.holds(outcome.attempt)])
        verdicts = await self._attempts.report(session.executor, outcomes)
        if session.free(verdicts):
            self._wakeup.ring("dispatcher")
        answers = [convert.answer_message(attempt, verdict) for attempt, verdict in verdicts.items()]
        session.tell(pb.ConnectResponse(report_accepted=pb.ReportAccepted(answers=answers)))

    async def _on_pin(self, session: Session, pin: pb.Pin) -> None:
        kept: str | None = None  # also of one that cannot be kept: the attempt cannot go on
        if len(pin.name) <= MAX_PIN_NAME and pin.name.isprintable():
            value = convert.text_of(pin.value, convert.MAX_RESULT)
            with suppress(Unstorable):
                kept = await self._attempts.pin(session.executor, convert.attempt_of(pin.attempt), pin.name, value)
        pinned = pb.Pinned(attempt=pin.attempt, name=pin.name, value=kept or "", lost=kept is None)
        session.tell(pb.ConnectResponse(pinned=pinned))


def _check(register: pb.Register) -> None:
    """Raises InvalidArgument for names that nobody could list or keep."""
    names = [register.executor_id, register.group, *(handler.name for handler in register.handlers)]
    if not 1 <= len(register.executor_id) <= 64 or not 1 <= len(register.group) <= 100:
        raise InvalidArgument(reason="register needs a group of 1 to 100 characters and an executor_id of 1 to 64")
    if len(register.handlers) > MAX_HANDLERS or not all(1 <= len(name) <= 100 for name in names[2:]):
        raise InvalidArgument(
            reason=f"register takes {MAX_HANDLERS} handlers at most, with names of 1 to 100 characters"
        )
    if not all(name.isprintable() for name in (*names, register.name, register.version)):
        raise InvalidArgument(reason="register takes printable names only")


def _tell_cancelled(session: Session, beat: Beat) -> None:
    for attempt in beat.cancelled:
        session.tell(convert.cancel_message(attempt, "cancelled on request"))
