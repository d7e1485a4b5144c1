"""The producer of a shard: one fenced sequence over one stream, sent again from the first unacknowledged one.

The rules are those of docs/decisions/0001-producers.md.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc.aio

from broker.client import convert
from broker.client.backoff import backoff
from broker.client.message import Message
from broker.client.publishing.receipts import Receipts
from broker.client.publishing.window import Window
from broker.errors import Abandoned, BrokerStopping, NotOpen, ProducerUnknown, SequenceGap
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import CALL_SECONDS, bearer, dial, renamed
from protos.errors import ShardcastError, TimedOut, Unreachable, restore

log = logging.getLogger(__name__)  # a user's program decides what it shows; the daemons show it as JSON

PASSING = (Unreachable, TimedOut, BrokerStopping)
"""Errors that end by themselves when the broker is back."""


@dataclass(frozen=True, slots=True)
class _Pending:
    request: pb.PublishRequest
    receipts: asyncio.Future[Receipts]
    sent_as: Sequence[int]
    size: int


class _SendAgain(Exception):
    """A publish came out of order: the whole window goes again on a new stream."""


class ShardProducer:
    """Publishes under one producer id, term and holder id; an async context manager.

    Entering fences every other holder and waits for the broker as long as it takes. `window` publishes may be in
    flight, of `window_bytes` together unless it is a single one. After a refusal nothing more is sent: it is raised by
    `flush` and by every later `publish`.
    """

    log_id: str
    cursor: bytes | None
    last_sequence: int
    failure: ShardcastError | None
    """The refusal that ended it."""
    is_turned_away: bool
    """Whether that was about the stream as a whole, and about none of the publishes."""

    def __init__(
        self,
        endpoint: str,
        producer_id: str,
        *,
        term: int,
        holder_id: str,
        window: int = 8,
        window_bytes: int = 16 << 20,
        token: str = "",
    ) -> None:
        self.endpoint = endpoint
        self.producer_id = producer_id
        self.term = term
        self.holder_id = holder_id
        self._metadata = bearer(token)
        self._window = Window(window, window_bytes)
        self._pending: dict[int, _Pending] = {}
        self._unsent = asyncio.Event()
        self.failure = None
        self.is_turned_away = False

    async def __aenter__(self) -> Self:
        self._channel = dial(self.endpoint)
        self._stub = BrokerServiceStub(self._channel)
        try:
            opened = await self._open()
        except BaseException:
            await self._channel.close()
            raise
        self.log_id, self.last_sequence = opened.log_id, opened.last_sequence
        self.cursor = opened.cursor if opened.HasField("cursor") else None
        self._next = opened.last_sequence + 1
        self._sending = asyncio.create_task(self._keep_sending())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
        self.failure = self.failure or NotOpen(what="producer")  # who waits for room in the window hears of it
        for pending in self._pending.values():
            pending.receipts.cancel()
            self._window.release(pending.size)
        self._pending.clear()
        await self._channel.close()

    @property
    def is_busy(self) -> bool:
        """Whether publishes wait for their answers."""
        return bool(self._pending)

    async def publish(
        self,
        topic: str,
        messages: Sequence[Message],
        cursor: bytes | None = None,
        transaction: pb.TransactionPart | None = None,
        queue: int | None = None,
    ) -> asyncio.Future[Receipts]:
        """Sends one atomic publish behind all before it and returns the future of its receipts.

        Waits while the window is full. Raises the refusal that ended this producer, or TooLarge before anything is
        sent.
        """
        request = pb.PublishRequest(
            producer_id=self.producer_id,
            term=self.term,
            holder_id=self.holder_id,
            cursor=cursor,
            batches=convert.topic_batches(topic, messages, queue),
            transaction=transaction,
        )
        size = request.ByteSize()
        await self._window.acquire(size)
        if self.failure is not None:
            self._window.release(size)
            raise self.failure
        request.sequence = self._next
        self._next += 1
        pending = self._pending[request.sequence] = _Pending(
            request, asyncio.get_running_loop().create_future(), convert.sent_as(topic, messages), size
        )
        self._unsent.set()
        receipts = asyncio.shield(pending.receipts)  # who stops waiting does not take the acknowledgement along
        receipts.add_done_callback(_look_at)
        return receipts

    async def flush(self) -> None:
        """Returns when everything sent is acknowledged; raises the first refusal."""
        if self._pending:  # gather would cancel the receipts with its caller
            await asyncio.wait([pending.receipts for pending in self._pending.values()])
        if self.failure is not None:
            raise self.failure

    async def _open(self) -> pb.OpenProducerResponse:
        request = pb.OpenProducerRequest(producer_id=self.producer_id, term=self.term, holder_id=self.holder_id)
        async for _ in backoff():
            try:
                with renamed(self.endpoint):
                    return await self._stub.OpenProducer(request, timeout=CALL_SECONDS, metadata=self._metadata)
            except PASSING as error:
                log.info(
                    "broker not reached",
                    extra={"action": "open_retry", "producer": self.producer_id, "error": str(error)},
                )
        raise AssertionError  # backoff never ends

    async def _keep_sending(self) -> None:
        async for start_over in backoff():
            if not self._pending:
                await self._unsent.wait()
            try:
                await self._converse(start_over)
            except _SendAgain:
                start_over()
            except PASSING as error:
                log.info(
                    "stream cut", extra={"action": "publish_retry", "producer": self.producer_id, "error": str(error)}
                )
            except ShardcastError as error:
                self._turn_away(error)
                return
            except Exception:
                log.exception("stream not understood", extra={"action": "publish_failed", "producer": self.producer_id})
                self._turn_away(ShardcastError())
                return

    async def _converse(self, heard: Callable[[], None]) -> None:
        """One stream, from the first unacknowledged publish on, until it breaks or something is refused."""
        with renamed(self.endpoint):
            call = self._stub.Publish(metadata=self._metadata)
            writing = asyncio.create_task(self._write(call))
            try:
                async for response in call:
                    heard()
                    self._settle(response)
            finally:
                writing.cancel()
                call.cancel()
                await asyncio.gather(writing, return_exceptions=True)
        raise Unreachable(address=self.endpoint)

    async def _write(self, call: grpc.aio.StreamStreamCall[pb.PublishRequest, pb.PublishResponse]) -> None:
        written = 0
        while True:
            self._unsent.clear()
            for sequence, pending in list(self._pending.items()):
                if sequence > written:
                    await call.write(pending.request)
                    written = sequence
            await self._unsent.wait()

    def _settle(self, response: pb.PublishResponse) -> None:
        if response.HasField("refusal"):
            raise self._refused(response)
        pending = self._pending.pop(response.sequence)
        self._window.release(pending.size)
        pending.receipts.set_result(Receipts(response.published, pending.sent_as))

    def _refused(self, response: pb.PublishResponse) -> Exception:
        refusal = response.refusal
        error = restore(refusal.code, refusal.message, refusal.fields)
        if isinstance(error, SequenceGap):
            if int(str(error.fields["expected"])) >= next(iter(self._pending)):
                return _SendAgain()
            error = ProducerUnknown(producer_id=self.producer_id, reason="it lost a publish that it had acknowledged")
        refused = self._pending.pop(response.sequence)
        self._window.release(refused.size)
        refused.receipts.set_exception(error)
        self._fail(error)
        return error

    def _turn_away(self, error: ShardcastError) -> None:
        if self.failure is None:
            self.is_turned_away = True
            self._fail(error)

    def _fail(self, error: ShardcastError) -> None:
        """In one step: whoever hears of the refusal finds the others abandoned."""
        self.failure = error
        for sequence, pending in self._pending.items():
            pending.receipts.set_exception(Abandoned(sequence=sequence, cause=error))
            self._window.release(pending.size)
        self._pending.clear()


def _look_at(receipts: asyncio.Future[Receipts]) -> None:
    """A refusal is told by flush; a future that nobody awaits shall not complain about it."""
    if not receipts.cancelled():
        receipts.exception()
