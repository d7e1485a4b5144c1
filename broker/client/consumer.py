"""The consumer of a group: holds queues, fetches ahead, commits what is done, hands queues over in order."""

import asyncio
import logging
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Literal, Self

from broker.client import convert
from broker.client.backoff import backoff
from broker.client.endpoint import checked
from broker.client.message import Batch
from broker.client.shard_producer import PASSING
from broker.errors import BadRequest, NotOpen, OffsetOutOfRange
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import CALL_SECONDS, bearer, dial, renamed
from protos.errors import NotSupported, ShardcastError, Unreachable

log = logging.getLogger(__name__)  # a user's program decides what it shows; the daemons show it as JSON

FETCH_WAIT_MS = 5_000
BUFFERED_BATCHES = 4
_STARTS = {"earliest": pb.START_EARLIEST, "latest": pb.START_LATEST}

QueueKey = tuple[str, int]


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(slots=True)
class _HeldQueue:
    """A queue that this member owns. `handed` is the offset behind the last batch given to the user."""

    generation: int
    handed: int
    committed: int
    fetching: asyncio.Task[None] | None = None
    is_releasing: bool = False
    may_fetch: asyncio.Event = field(default_factory=_set)

    @property
    def is_settled(self) -> bool:
        """Whether it can be given back now."""
        return self.is_releasing and self.committed >= self.handed


class Consumer:
    """Reads topics as one member of a consumer group; a context manager.

    `for batch in consumer: ...; consumer.commit(batch)` gives consecutive messages of one queue at a time, for ever.
    Each queue belongs to one living member of the group. `start` says where a queue begins that the group never read:
    "earliest" or "latest". What was not committed comes again, to this or another member, with the same keys and ids.
    Opening raises Unreachable when nothing answers within `connect_timeout`; from then on it waits while the broker is
    away.
    """

    def __init__(
        self,
        endpoint: str,
        group: str,
        topics: Sequence[str],
        *,
        start: Literal["earliest", "latest"] = "earliest",
        mode: Literal["offset"] = "offset",
        token: str = "",
        max_messages: int = 1_000,
        session_timeout: timedelta = timedelta(seconds=10),
        connect_timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        if start not in _STARTS:
            raise BadRequest(reason=f"start is {start!r}; it can be earliest or latest")
        if mode != "offset":
            raise NotSupported(feature=f"consuming in mode {mode!r}")
        self._endpoint = checked(endpoint)
        self._metadata = bearer(token)
        self._group = group
        self._topics = tuple(topics)
        self._start = _STARTS[start]
        self._max_messages = max_messages
        self._session_timeout_ms = round(session_timeout.total_seconds() * 1000)
        self._connect_seconds = connect_timeout.total_seconds()
        self._member_id = uuid.uuid4().hex
        self._queues: dict[QueueKey, _HeldQueue] = {}
        # A beat's answer and a release must not cross: the answer would bring back what was just given away.
        self._membership = asyncio.Lock()
        self._buffer: asyncio.Queue[tuple[_HeldQueue, Batch] | Exception] = asyncio.Queue(BUFFERED_BATCHES)
        self._failure: Exception | None = NotOpen(what="consumer")  # once reading is impossible it stays so

    async def __aenter__(self) -> Self:
        self._channel = dial(self._endpoint)
        self._stub = BrokerServiceStub(self._channel)
        try:
            async with asyncio.timeout(self._connect_seconds):
                seconds = await self._beat_patiently()
        except TimeoutError as error:
            await self._channel.close()
            raise Unreachable(address=self._endpoint) from error
        except BaseException:
            await self._channel.close()
            raise
        self._failure = None
        self._beating = asyncio.create_task(self._keep_beating(seconds))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._failure = NotOpen(what="consumer")
        tasks = [self._beating, *(held.fetching for held in self._queues.values() if held.fetching)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            with renamed(self._endpoint):
                request = pb.LeaveGroupRequest(group=self._group, member_id=self._member_id)
                await self._stub.LeaveGroup(request, timeout=1.0, metadata=self._metadata)
        except ShardcastError as failed:
            log.info(
                "left without a word", extra={"action": "leave_failed", "group": self._group, "error": str(failed)}
            )
        await self._channel.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        """The next batch of any queue held; waits for it. Raises what makes reading impossible."""
        while self._failure is None:
            got = await self._buffer.get()
            if isinstance(got, Exception):
                self._failure = got
                break
            held, batch = got
            if self._queues.get((batch.topic, batch.queue)) is held and not held.is_releasing:
                held.handed = batch.next_offset
                return batch
        raise self._failure

    async def commit(self, batch: Batch, before: int | None = None) -> None:
        """Says that the batch and all before it in its queue are done; durable on return.

        With `before`, an offset within the batch, only what lies before that one. Waits while the broker is away.
        Raises NotOwner when the queue has gone to another member, who gets what was not committed again.
        """
        offset = batch.next_offset if before is None else before
        request = pb.CommitRequest(
            group=self._group,
            member_id=self._member_id,
            commits=[pb.OffsetCommit(claim=_claim_of(batch), offset=offset)],
        )
        async for _ in backoff():
            try:
                with renamed(self._endpoint):
                    await self._stub.Commit(request, timeout=CALL_SECONDS, metadata=self._metadata)
                break
            except PASSING as error:
                log.info("commit waits", extra={"action": "commit_retry", "group": self._group, "error": str(error)})
        held = self._queues.get((batch.topic, batch.queue))
        if held is not None and held.generation == batch.generation:
            held.committed = max(held.committed, offset)
            if held.is_releasing:
                await self._release_settled([(batch.topic, batch.queue)])

    async def give_up(self, batch: Batch, offsets: Sequence[int], attempts: int, error: str) -> None:
        """Puts messages of the batch into the group's dead letters, with how often they were tried and the last error.

        Durable on return; commit the batch as if they were done. Waits while the broker is away. Raises NotOwner.
        """
        request = pb.GiveUpRequest(
            group=self._group,
            member_id=self._member_id,
            claim=_claim_of(batch),
            offsets=offsets,
            attempts=attempts,
            error=error,
        )
        async for _ in backoff():
            try:
                with renamed(self._endpoint):
                    await self._stub.GiveUp(request, timeout=CALL_SECONDS, metadata=self._metadata)
                return
            except PASSING as failed:
                log.info("give-up waits", extra={"action": "give_up_retry", "group": self._group, "error": str(failed)})

    def pause(self, topic: str, queue: int) -> None:
        """Fetches no more of this queue until `resume`, so that others go on; a few batches may be on their way."""
        if (held := self._queues.get((topic, queue))) is not None:
            held.may_fetch.clear()

    def resume(self, topic: str, queue: int) -> None:
        """Fetches of this queue again."""
        if (held := self._queues.get((topic, queue))) is not None:
            held.may_fetch.set()

    async def _keep_beating(self, seconds: float) -> None:
        try:
            while True:
                await asyncio.sleep(seconds)
                seconds = await self._beat_patiently()
        except Exception as error:
            await self._buffer.put(error)

    async def _beat_patiently(self) -> float:
        async for _ in backoff():
            try:
                return await self._beat()
            except PASSING as error:
                log.info("beat waits", extra={"action": "beat_retry", "group": self._group, "error": str(error)})
        raise AssertionError  # backoff never ends

    async def _beat(self) -> float:
        """Takes what it was given, drops what it lost, hands over what it shall. Returns the seconds until the next."""
        async with self._membership:
            request = pb.BeatGroupRequest(
                group=self._group,
                member_id=self._member_id,
                topics=self._topics,
                session_timeout_ms=self._session_timeout_ms,
                start=self._start,
            )
            with renamed(self._endpoint):
                response = await self._stub.BeatGroup(request, timeout=CALL_SECONDS, metadata=self._metadata)
            leaving = [_key(claim) for claim in response.release]
            self._follow({_key(owned.claim): owned for owned in response.owned}, leaving)
        await self._release_settled(leaving)
        return response.beat_period_ms / 1000

    def _follow(self, owned: dict[QueueKey, pb.Assignment], leaving: Sequence[QueueKey]) -> None:
        for key, held in list(self._queues.items()):
            if key not in owned or owned[key].claim.generation != held.generation:
                self._stop_fetching(key)
                del self._queues[key]
            elif held.is_releasing and key not in leaving:  # who should have got it is gone
                self._hold(key, _HeldQueue(held.generation, held.handed, held.committed))
        for key, assignment in owned.items():
            if key not in self._queues:
                self._hold(key, _HeldQueue(assignment.claim.generation, assignment.offset, assignment.offset))
        for key in leaving:
            self._stop_fetching(key)

    def _hold(self, key: QueueKey, held: _HeldQueue) -> None:
        held.fetching = asyncio.create_task(self._keep_fetching(key, held))
        self._queues[key] = held

    def _stop_fetching(self, key: QueueKey) -> None:
        if (held := self._queues.get(key)) is not None:
            held.is_releasing = True
            if held.fetching is not None:
                held.fetching.cancel()

    async def _release_settled(self, keys: Sequence[QueueKey]) -> None:
        """Gives back what is committed as far as it was handed out; the rest follows with its commit."""
        async with self._membership:
            settled = [key for key in keys if key in self._queues and self._queues[key].is_settled]
            if not settled:
                return
            request = pb.ReleaseQueuesRequest(
                group=self._group, member_id=self._member_id, claims=[self._claim(key) for key in settled]
            )
            with suppress(*PASSING), renamed(self._endpoint):  # a lost release is asked for again by the next beat
                await self._stub.ReleaseQueues(request, timeout=CALL_SECONDS, metadata=self._metadata)
            for key in settled:
                del self._queues[key]

    def _claim(self, key: QueueKey) -> pb.Claim:
        return pb.Claim(topic=key[0], queue=key[1], generation=self._queues[key].generation)

    async def _keep_fetching(self, key: QueueKey, held: _HeldQueue) -> None:
        """Fetches from where the queue stands, as long as it is held so: what it put by before a hand-over is void."""
        offset = held.handed
        async for heard in backoff():
            try:
                while await held.may_fetch.wait():
                    batch = await self._fetch(key, held.generation, offset)
                    heard()
                    if len(batch):
                        await self._buffer.put((held, batch))
                    offset = batch.next_offset
            except PASSING as error:
                log.info(
                    "fetch waits",
                    extra={"action": "fetch_retry", "topic": key[0], "queue": key[1], "error": str(error)},
                )
            except OffsetOutOfRange as error:
                lowest = int(str(error.fields["lowest"]))
                if offset >= lowest:
                    await self._buffer.put(error)
                    return
                log.warning(
                    "messages expired unread",
                    extra={"action": "skip", "topic": key[0], "queue": key[1], "lost": lowest - offset},
                )
                offset = lowest
            except Exception as error:
                await self._buffer.put(error)
                return

    async def _fetch(self, key: QueueKey, generation: int, offset: int) -> Batch:
        request = pb.FetchRequest(
            topic=key[0],
            queue=key[1],
            offset=offset,
            max_messages=self._max_messages,
            wait_ms=FETCH_WAIT_MS,
            group=self._group,
        )
        with renamed(self._endpoint):
            response = await self._stub.Fetch(
                request, timeout=CALL_SECONDS + FETCH_WAIT_MS / 1000, metadata=self._metadata
            )
        return convert.batch(key[0], key[1], generation, response)


def _claim_of(batch: Batch) -> pb.Claim:
    return pb.Claim(topic=batch.topic, queue=batch.queue, generation=batch.generation)


def _key(claim: pb.Claim) -> QueueKey:
    return claim.topic, claim.queue
