"""Reading by lease: messages of any queue are handed to this member for a time, and settled one by one."""

import asyncio
from contextlib import suppress
from functools import partial

from broker.client import convert
from broker.client.backoff import backoff
from broker.client.consuming.member import Member, log
from broker.client.consuming.settling import Settling, Verb
from broker.client.message import Batch
from broker.client.publishing.shard_producer import PASSING
from broker.errors import NotOpen
from protos.broker.v1 import broker_pb2 as pb
from protos.channel import CALL_SECONDS
from protos.errors import ShardcastError

LEASE_WAIT_MS = 5_000
AHEAD = 2  # batches of a topic that are leased before they are asked for; so many calls are under way
_EXTENSIONS_A_LEASE = 3
_LINGER_SECONDS = 0.1  # for messages that are on their way when the user goes


class LeaseReader:
    """Leases ahead of its user, keeps what waits for him, and returns it when he goes."""

    def __init__(self, member: Member, lease_ms: int) -> None:
        self._member = member
        self._lease_ms = lease_ms
        self._ahead: asyncio.Queue[Batch | Exception] = asyncio.Queue()
        self._room = {topic: asyncio.Semaphore(AHEAD) for topic in member.reads.topics}
        self._waiting: dict[int, Batch] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: set[asyncio.Future[Batch]] = set()
        self.settling = Settling(member)

    async def open(self) -> None:
        """Joins the group by a first look at every topic; waits while the broker is away."""
        for topic in self._member.reads.topics:
            await self._room[topic].acquire()
            batch, _ = await self._member.ask_patiently("lease", partial(self._lease, topic, 0))
            self._put(topic, batch)
        topics = self._member.reads.topics
        self._tasks = [asyncio.create_task(self._keep_leasing(topic)) for topic in topics for _ in range(AHEAD)]
        self._tasks.append(asyncio.create_task(self._keep_extending()))

    async def close(self) -> None:
        """Leases nothing more, returns what nobody has looked at, and waits until all that was said is heard."""
        for task in self._tasks:
            task.cancel()
        self._ahead.put_nowait(NotOpen(what="consumer"))  # for who waits just now
        await asyncio.gather(*self._tasks, return_exceptions=True)
        unseen = [*self._waiting.values(), *await self._late()]
        with suppress(ShardcastError, TimeoutError):  # then they come again when their lease ends
            async with asyncio.timeout(CALL_SECONDS / 10):
                await self.settling.say(Verb(pb.ACTION_RETURN), unseen)
        with suppress(TimeoutError):
            async with asyncio.timeout(CALL_SECONDS / 10):
                await self.settling.close()

    async def _late(self) -> list[Batch]:
        """What is on its way already: were it cut off, nobody would get it before its lease ends."""
        if not self._asking:
            return []
        came, cut_off = await asyncio.wait(self._asking, timeout=_LINGER_SECONDS)
        for asking in cut_off:
            asking.cancel()
        return [asking.result() for asking in came if not asking.cancelled() and asking.exception() is None]

    async def next(self) -> Batch:
        """The next batch of any topic; waits for it. Raises what makes reading impossible."""
        got = await self._ahead.get()
        if isinstance(got, Exception):
            self._ahead.put_nowait(got)  # whoever else waits hears of it too
            raise got
        del self._waiting[id(got)]
        self._room[got.topic].release()
        return got

    def _put(self, topic: str, batch: Batch) -> None:
        if len(batch):
            self._waiting[id(batch)] = batch
            self._ahead.put_nowait(batch)
        else:
            self._room[topic].release()

    async def _keep_leasing(self, topic: str) -> None:
        async for heard in backoff():
            try:
                while await self._room[topic].acquire():
                    batch = await self._answer(topic)
                    heard()
                    self._put(topic, batch)
            except PASSING as error:
                log.info("lease waits", extra={"action": "lease_retry", "topic": topic, "error": str(error)})
            except Exception as error:
                self._ahead.put_nowait(error)
                return

    async def _answer(self, topic: str) -> Batch:
        """Of one call, which goes on when this is cancelled: what it brings is given back then."""
        asking = asyncio.ensure_future(self._member.ask(partial(self._lease, topic, LEASE_WAIT_MS)))
        self._asking.add(asking)
        try:
            batch = await asyncio.shield(asking)
        except Exception:
            self._asking.discard(asking)
            self._room[topic].release()
            raise
        self._asking.discard(asking)
        return batch

    async def _keep_extending(self) -> None:
        """What waits here is not lost to a user who takes his time."""
        while True:
            await asyncio.sleep(self._lease_ms / 1_000 / _EXTENSIONS_A_LEASE)
            with suppress(ShardcastError):  # one that ran out comes again, and is refused when it is settled
                await self.settling.say(Verb(pb.ACTION_EXTEND, self._lease_ms), [*self._waiting.values()])

    async def _lease(self, topic: str, wait_ms: int) -> Batch:
        member = self._member
        request = pb.LeaseRequest(
            group=member.reads.group,
            member_id=member.member_id,
            topic=topic,
            max_messages=member.reads.max_messages,
            lease_ms=self._lease_ms,
            wait_ms=wait_ms,
            tags=member.reads.tags,
            start=member.reads.start_kind,
            start_at_ms=member.reads.start_at_ms,
        )
        seconds = CALL_SECONDS + wait_ms / 1_000
        return convert.leased_batch(topic, await member.stub.Lease(request, timeout=seconds, metadata=member.metadata))
