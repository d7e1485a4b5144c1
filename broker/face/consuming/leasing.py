"""Leases: messages are handed to any member of a group for a time, and settled one by one."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from broker.delivery.dead_letters import topic_of
from broker.delivery.leases.settling import Action, Settlement
from broker.delivery.reader import Records, read_records
from broker.delivery.waiters import Sign
from broker.engine.commands import JoinByLease
from broker.engine.leasing.commands import (
    Grave,
    Leased,
    LeasedEntry,
    LeaseMessages,
    LeasesSettled,
    SettleLeases,
)
from broker.errors import LeaseExpired, TopicPermission, UnknownTopic
from broker.face.consuming.starting import begins
from broker.face.parts import Parts
from broker.model import Attributes, Beat, GroupName, GroupPolicy, MemberId, QueueKey, Start, Topic, TopicId, TopicName
from broker.queues.topics import check_name

SESSION_SECONDS = 60.0  # a member that asks for nothing for so long is out; what it has it keeps until its end
_JOIN_AGAIN_SECONDS = 15.0
_MOST_JOINED = 10_000


@dataclass(frozen=True, slots=True)
class WantedLease:
    """Who asks for how many messages of a topic, for how long, and how long for the first one."""

    group: GroupName
    member_id: MemberId
    topic: TopicName
    max_messages: int
    lease_ms: int
    wait_seconds: float
    tags: frozenset[bytes]
    start: Start


@dataclass(frozen=True, slots=True)
class LeasedBatch:
    """Messages of any queues of a topic as columns, all leased up to the same instant."""

    topic_id: TopicId
    expires_at_ms: int = 0
    queues: Sequence[int] = ()
    offsets: Sequence[int] = ()
    attempts: Sequence[int] = ()
    bodies: Sequence[bytes] = ()
    keys: Sequence[bytes] = ()
    tags: Sequence[bytes] = ()
    attributes: Mapping[int, Attributes] = field(default_factory=dict)
    published_at_ms: Sequence[int] = ()


class Leasing:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._joined: dict[tuple[GroupName, MemberId, TopicName], float] = {}

    async def lease(self, wanted: WantedLease) -> LeasedBatch:
        """Nothing in time is an empty answer. Raises BadName, ModeConflict, TopicPermission, UnknownTopic."""
        parts, loop = self._parts, asyncio.get_running_loop()
        topic = await self._topic(wanted)
        until = loop.time() + wanted.wait_seconds
        while True:
            topic = self._as_it_is(topic)
            signs: list[Sign] = [QueueKey(topic.topic_id, queue) for queue in range(topic.read_queues)]
            signs.append((wanted.group, topic.topic_id))
            with parts.waiters.watching(signs) as happened:
                if not await self._may_read(wanted.group, until):
                    return LeasedBatch(topic.topic_id)
                leased = await self._ask_safely(wanted, topic)
                if leased.is_out:
                    return LeasedBatch(topic.topic_id)
                if leased.entries and (batch := await self._read_safely(wanted, topic, leased)).bodies:
                    self._parts.paces.take(wanted.group, self._rate(wanted.group), len(batch.bodies))
                    return batch
                if leased.is_behind or leased.entries:
                    continue
                left = until - loop.time()
                if left <= 0 or parts.stopping.is_set():
                    return LeasedBatch(topic.topic_id)
                due = max(0.0, (leased.next_due_ms - parts.clock()) / 1_000)
                await asyncio.wait((happened,), timeout=min(left, due))

    async def _topic(self, wanted: WantedLease) -> Topic:
        check_name(wanted.group, "group")
        check_name(topic_of(wanted.group), "topic")
        topic = self._as_it_is(await self._parts.topic(wanted.topic))
        await self._join(wanted)
        return topic

    def _as_it_is(self, topic: Topic) -> Topic:
        """It may have been altered or deleted since the last look. Raises UnknownTopic, TopicPermission."""
        now = self._parts.catalog.topics.by_id(topic.topic_id)
        if now is None:
            raise UnknownTopic(topic=topic.name)
        if not now.policy.is_readable:
            raise TopicPermission(topic=topic.name, ability="readable")
        return now

    async def _join(self, wanted: WantedLease) -> None:
        """A sign of life of the member, now and then; the first one says that the group reads by lease."""
        member, now = (wanted.group, wanted.member_id, wanted.topic), asyncio.get_running_loop().time()
        is_late = now - self._joined.get(member, -_JOIN_AGAIN_SECONDS) >= _JOIN_AGAIN_SECONDS
        if not is_late and self._parts.engine.grouping.is_leasing(wanted.group, wanted.member_id):
            return  # who left, or whose group was deleted, joins again
        sign = Beat(wanted.group, wanted.member_id, frozenset({wanted.topic}), SESSION_SECONDS, wanted.start)
        await self._parts.ask(JoinByLease(sign, self._parts.awake()))
        if len(self._joined) >= _MOST_JOINED:
            self._joined.clear()
        self._joined[member] = now

    async def _ask_safely(self, wanted: WantedLease, topic: Topic) -> Leased:
        """What is handed out to somebody who has gone meanwhile is returned, so that nobody waits for its lease."""
        asking = asyncio.create_task(self._ask(wanted, topic))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            await self._give_back(wanted, (await asking).entries)
            raise

    async def _read_safely(self, wanted: WantedLease, topic: Topic, leased: Leased) -> LeasedBatch:
        try:
            return await self._read(wanted, topic, leased)
        except asyncio.CancelledError:
            await self._give_back(wanted, leased.entries)
            raise

    async def _give_back(self, wanted: WantedLease, entries: Iterable[LeasedEntry]) -> None:
        given = [_settlement(each, Action.GIVE_BACK) for each in entries]
        await self.settle(wanted.group, wanted.member_id, wanted.topic, given)

    @asynccontextmanager
    async def on_its_way(self, wanted: WantedLease, batch: LeasedBatch) -> AsyncIterator[None]:
        """Around what may be cut off before the member gets the batch: then it is returned."""
        try:
            yield
        except asyncio.CancelledError:
            handings = zip(batch.queues, batch.offsets, batch.attempts, strict=True)
            given = [Settlement(queue, [offset], [attempt], Action.GIVE_BACK) for queue, offset, attempt in handings]
            await self.settle(wanted.group, wanted.member_id, wanted.topic, given)
            raise

    async def _ask(self, wanted: WantedLease, topic: Topic) -> Leased:
        parts = self._parts
        begin = await begins(parts, wanted.group, topic, wanted.start)
        grave = self._known_grave(wanted.group)
        while True:
            command = LeaseMessages(
                wanted.group,
                wanted.member_id,
                topic,
                wanted.max_messages,
                wanted.lease_ms,
                wanted.tags,
                begin,
                parts.readable_ends(topic, wanted.group),
                parts.engine.grouping.policy(wanted.group),
                grave,
            )
            leased = await parts.ask(command)
            assert isinstance(leased, Leased)
            if not leased.lacks_grave:
                return leased
            grave = await self._parts.grave(wanted.group)

    def _known_grave(self, group: GroupName) -> Grave | None:
        topic = self._parts.catalog.topics.get(topic_of(group))
        return Grave(topic.topic_id, self._parts.log_id) if topic else None

    async def _read(self, wanted: WantedLease, topic: Topic, leased: Leased) -> LeasedBatch:
        """The messages themselves. Damaged ones are given up; a tag that only has the same hash is done."""
        entries = sorted(leased.entries, key=lambda each: each.entry.position)
        places = [(each.entry.position, each.entry.size) for each in entries]
        records = await self._parts.on_disk(read_records, self._parts.engine.log, places)
        unwanted = _unwanted(records, wanted.tags)
        bad = {*unwanted, *records.damaged}
        if not bad:
            return _batch(topic, leased, entries, records)
        settlements = [
            *(_settlement(entries[at], Action.GIVE_UP, "its record is damaged") for at in records.damaged),
            *(_settlement(entries[at], Action.ACKNOWLEDGE) for at in unwanted),
        ]
        await self.settle(wanted.group, wanted.member_id, wanted.topic, settlements)
        good = [at for at in range(len(entries)) if at not in bad]
        return _batch(topic, leased, [entries[at] for at in good], _picked(records, good))

    async def _may_read(self, group: GroupName, until: float) -> bool:
        """A group that reads faster than it may waits; False: until then, and for longer."""
        loop = asyncio.get_running_loop()
        while seconds := self._parts.paces.seconds_left(group, self._rate(group)):
            left = until - loop.time()
            if left <= 0 or await self._parts.is_stopping_within(min(seconds, left)):
                return False
        return True

    def _rate(self, group: GroupName) -> float:
        return self._parts.engine.grouping.policy(group).messages_per_second

    async def settle(
        self, group: GroupName, member_id: MemberId, topic_name: TopicName, settlements: Sequence[Settlement]
    ) -> Sequence[LeaseExpired]:
        """What was refused; all else is done. Also while the broker drains. Raises UnknownTopic."""
        topic = self._parts.catalog.topics.get(topic_name)
        if topic is None:
            raise UnknownTopic(topic=topic_name)
        policy = self._parts.engine.grouping.policy(group)
        # A group that does not lease is refused everything: nothing is to be made for it.
        may_kill = self._parts.engine.grouping.leases(group) and _may_kill(settlements, policy)
        grave = await self._parts.grave(group) if may_kill else None
        command = SettleLeases(
            group, member_id, topic.name, topic.topic_id, settlements, policy, grave, self._parts.awake()
        )
        settled = await self._parts.finish(command)
        assert isinstance(settled, LeasesSettled)
        if settled.has_freed or topic.gates:
            self._parts.waiters.wake([(group, topic.topic_id)])
        return settled.refused


def _may_kill(settlements: Sequence[Settlement], policy: GroupPolicy) -> bool:
    """Whether any of them may give a message up."""
    return any(
        settlement.action is Action.GIVE_UP
        or (settlement.action is Action.RETRY and max(settlement.attempts, default=0) >= policy.attempts)
        for settlement in settlements
    )


def _unwanted(records: Records, tags: frozenset[bytes]) -> Sequence[int]:
    if not tags:
        return ()
    own = records.tags or [b""] * len(records.bodies)
    return [at for at, tag in enumerate(own) if tag not in tags and at not in records.damaged]


def _settlement(leased: LeasedEntry, action: Action, error: str = "") -> Settlement:
    return Settlement(leased.queue, [leased.entry.offset], [leased.attempt], action, error=error)


def _picked(records: Records, indexes: Sequence[int]) -> Records:
    return Records(
        [records.bodies[at] for at in indexes],
        [records.keys[at] for at in indexes] if records.keys else (),
        [records.tags[at] for at in indexes] if records.tags else (),
        {new: records.attributes[at] for new, at in enumerate(indexes) if at in records.attributes},
        [records.published_at_ms[at] for at in indexes],
        (),
    )


def _batch(topic: Topic, leased: Leased, entries: Sequence[LeasedEntry], records: Records) -> LeasedBatch:
    return LeasedBatch(
        topic.topic_id,
        leased.expires_at_ms,
        [each.queue for each in entries],
        [each.entry.offset for each in entries],
        [each.attempt for each in entries],
        records.bodies,
        records.keys,
        records.tags,
        records.attributes,
        records.published_at_ms,
    )
