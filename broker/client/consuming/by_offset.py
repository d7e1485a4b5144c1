"""Reading by offset: holds queues, fetches ahead, commits what is done, hands queues over in order."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby

from broker.client import convert
from broker.client.backoff import backoff
from broker.client.consuming.member import Member
from broker.client.message import Batch, ReceivedMessage
from broker.client.publishing.shard_producer import PASSING
from broker.errors import NotOpen, NotOwner, OffsetOutOfRange, UnknownQueue
from protos.broker.v1 import broker_pb2 as pb
from protos.channel import CALL_SECONDS

log = logging.getLogger(__name__)

FETCH_WAIT_MS = 5_000
BUFFERED_BATCHES = 4

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
    fetched: int = 0  # behind the last batch that is for the user

    @property
    def is_settled(self) -> bool:
        """Whether it can be given back now."""
        return self.is_releasing and self.committed >= self.handed


class OffsetReader:
    """Holds the queues that the group gives to this member."""

    def __init__(self, member: Member, session_timeout_ms: int) -> None:
        self._member = member
        self._session_timeout_ms = session_timeout_ms
        self._queues: dict[QueueKey, _HeldQueue] = {}
        # A beat's answer and a release must not cross: the answer would bring back what was just given away.
        self._membership = asyncio.Lock()
        self._buffer: asyncio.Queue[tuple[_HeldQueue, Batch] | Exception] = asyncio.Queue(BUFFERED_BATCHES)
        self._beating: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Joins the group; waits while the broker is away."""
        seconds = await self._beat_patiently()
        self._beating = asyncio.create_task(self._keep_beating(seconds))

    async def close(self) -> None:
        """Fetches nothing more; the group is still to be left."""
        tasks = [self._beating, *(held.fetching for held in self._queues.values())]
        running = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        with suppress(asyncio.QueueFull):  # nobody waits for what is full
            self._buffer.put_nowait(NotOpen(what="consumer"))
        await asyncio.gather(*running, return_exceptions=True)

    async def next(self) -> Batch:
        """The next batch of any queue held; waits for it. Raises what makes reading impossible."""
        while True:
            got = await self._buffer.get()
            if isinstance(got, Exception):
                self._buffer.put_nowait(got)  # whoever else waits hears of it too
                raise got
            held, batch = got
            if self._queues.get((batch.topic, batch.queue)) is held and not held.is_releasing:
                held.handed = batch.next_offset
                return batch

    async def commit(self, batch: Batch, before: int | None) -> None:
        """As Consumer.commit."""
        offset = batch.next_offset if before is None else before
        claim = pb.Claim(topic=batch.topic, queue=batch.queue, generation=batch.generation)
        request = pb.CommitRequest(
            group=self._member.reads.group,
            member_id=self._member.member_id,
            commits=[pb.OffsetCommit(claim=claim, offset=offset)],
        )
        member = self._member
        await member.ask_patiently(
            "commit", lambda: member.stub.Commit(request, timeout=CALL_SECONDS, metadata=member.metadata)
        )
        await self._has_committed((batch.topic, batch.queue), batch.generation, offset)

    async def _has_committed(self, key: QueueKey, generation: int, offset: int) -> None:
        held = self._queues.get(key)
        if held is not None and held.generation == generation:
            held.committed = max(held.committed, offset)
            if held.is_releasing:
                await self._release_settled([key])

    async def give_up(self, messages: Sequence[ReceivedMessage], error: str) -> None:
        """As Consumer.give_up."""
        in_order = sorted(messages, key=lambda each: (_key_of(each), each.offset))  # giving up commits what lies before
        for (key, attempts), same in groupby(in_order, lambda each: (_key_of(each), each.attempt)):
            await self._give_up(key, [each.offset for each in same], attempts, error)

    async def _give_up(self, key: QueueKey, offsets: Sequence[int], attempts: int, error: str) -> None:
        member = self._member
        group, member_id = member.reads.group, member.member_id
        if key not in self._queues:
            raise NotOwner(member_id=member_id, group=group, topic=key[0], queue=key[1], generation=0)
        request = pb.GiveUpRequest(
            group=group,
            member_id=member_id,
            claim=self._claim(key),
            offsets=offsets,
            attempts=attempts,
            error=error,
        )
        await member.ask_patiently(
            "give_up", lambda: member.stub.GiveUp(request, timeout=CALL_SECONDS, metadata=member.metadata)
        )
        await self._has_committed(key, request.claim.generation, offsets[-1] + 1)

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
                extra = {"action": "beat_retry", "group": self._member.reads.group, "error": str(error)}
                log.info("beat waits", extra=extra)
        raise AssertionError  # backoff never ends

    async def _beat(self) -> float:
        """Takes what it was given, drops what it lost, hands over what it shall. Returns the seconds until the next."""
        member = self._member
        async with self._membership:
            request = pb.BeatGroupRequest(
                group=member.reads.group,
                member_id=member.member_id,
                topics=member.reads.topics,
                session_timeout_ms=self._session_timeout_ms,
                start=member.reads.start_kind,
                start_at_ms=member.reads.start_at_ms,
            )
            response = await member.ask(
                lambda: member.stub.BeatGroup(request, timeout=CALL_SECONDS, metadata=member.metadata)
            )
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
            member = self._member
            request = pb.ReleaseQueuesRequest(
                group=member.reads.group, member_id=member.member_id, claims=[self._claim(key) for key in settled]
            )
            with suppress(*PASSING):  # a lost release is asked for again by the next beat
                await member.ask(
                    lambda: member.stub.ReleaseQueues(request, timeout=CALL_SECONDS, metadata=member.metadata)
                )
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
                        held.fetched = batch.next_offset
                        await self._buffer.put((held, batch))
                    elif max(held.fetched, held.handed) <= held.committed < batch.next_offset:
                        await self._pass_over(key, held, batch.next_offset)
                    offset = batch.next_offset
            except (*PASSING, UnknownQueue) as error:  # a queue that its topic has lost goes with the next beat
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

    async def _pass_over(self, key: QueueKey, held: _HeldQueue, offset: int) -> None:
        """What nobody here wants is done, and no commit of the user would say so."""
        member = self._member
        claim = pb.Claim(topic=key[0], queue=key[1], generation=held.generation)
        request = pb.CommitRequest(
            group=member.reads.group, member_id=member.member_id, commits=[pb.OffsetCommit(claim=claim, offset=offset)]
        )
        with suppress(NotOwner):  # the next beat tells
            await member.ask(lambda: member.stub.Commit(request, timeout=CALL_SECONDS, metadata=member.metadata))
            held.handed = held.committed = offset

    async def _fetch(self, key: QueueKey, generation: int, offset: int) -> Batch:
        member = self._member
        request = pb.FetchRequest(
            topic=key[0],
            queue=key[1],
            offset=offset,
            max_messages=member.reads.max_messages,
            wait_ms=FETCH_WAIT_MS,
            group=member.reads.group,
            tags=member.reads.tags,
        )
        seconds = CALL_SECONDS + FETCH_WAIT_MS / 1000
        response = await member.ask(lambda: member.stub.Fetch(request, timeout=seconds, metadata=member.metadata))
        return convert.batch(key[0], key[1], generation, response)


def _key_of(message: ReceivedMessage) -> QueueKey:
    return message.topic or "", message.queue


def _key(claim: pb.Claim) -> QueueKey:
    return claim.topic, claim.queue
