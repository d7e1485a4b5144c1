"""Dead letters: members put messages there, operators send them again or drop them."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from broker.delivery.dead_letters import raised, topic_before, topic_of
from broker.delivery.reader import read_records
from broker.engine.commands import BuryMessages
from broker.engine.leasing.commands import Moved, PurgeDeadLetters, RaiseDeadLetters
from broker.errors import BadRequest, NotOwner, UnknownTopic
from broker.face.parts import Parts
from broker.log.record import decode_entries
from broker.model import Attributes, Claim, GroupName, MemberId, QueueKey, Topic, TopicBatch, TopicName
from broker.queues.encoding import EncodedRun, encode_batch

CHUNK_BYTES = 4 << 20  # of records that one call sends again
MOST_RESENT = 10_000
_STEP = 256  # entries that are read at once


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Messages of a queue that a member reads by offset and cannot handle."""

    group: GroupName
    member_id: MemberId
    claim: Claim
    offsets: Sequence[int]
    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class WantedResend:
    """Which dead letters of a group: these, or all from an offset up to, not including, another."""

    group: GroupName
    offsets: Sequence[int]
    first_offset: int
    before_offset: int
    max_messages: int
    messages_per_second: float


@dataclass(frozen=True, slots=True)
class Resent:
    """How many were sent again, and where to go on."""

    count: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class _Found:
    offset: int
    position: int
    size: int


class DeadLetters:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._changing: defaultdict[GroupName, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def give_up(self, given: GivenUp) -> None:
        """They, and all before them in their queue, are done and committed; durable when this returns.

        What is committed already stays where it is. Raises BadRequest, NotOwner, UnknownGroup, UnknownTopic.
        """
        parts, claim = self._parts, given.claim
        topic = parts.catalog.topics.get(claim.at.topic)
        if topic is None:
            raise UnknownTopic(topic=claim.at.topic)
        if not parts.engine.grouping.owns(given.group, given.member_id, claim):
            raise NotOwner(
                member_id=given.member_id,
                group=given.group,
                topic=topic.name,
                queue=claim.at.queue,
                generation=claim.generation,
            )
        tried = given.offsets, given.attempts, given.error
        grave = await parts.grave(given.group)
        await parts.finish(BuryMessages(given.group, given.member_id, claim, topic.topic_id, *tried, grave))
        parts.wake_gates(given.group, [topic.name])

    async def purge(self, group: GroupName, offsets: Sequence[int]) -> int:
        """Drops these, or all that are there; returns how many. Raises BadRequest."""
        topic = self._parts.catalog.topics.get(topic_of(group))
        if topic is None:
            return 0
        async with self._changing[group]:
            answer = await self._parts.ask(PurgeDeadLetters(topic.topic_id, offsets))
        assert isinstance(answer, Moved)
        return answer.count

    async def resend(self, wanted: WantedResend) -> Resent:
        """Publishes a chunk to the topics that they came from, and drops them; takes as long as the rate asks for.

        Those whose topic was deleted stay where they are. Raises BadRequest, DiskFull, and UnknownTopic for one that
        was deleted just now.
        """
        parts = self._parts
        parts.space.check()
        topic = parts.catalog.topics.get(topic_of(wanted.group))
        if topic is None:
            return Resent(0, wanted.first_offset)
        async with self._changing[wanted.group]:
            found, next_offset = await parts.on_disk(self._find, topic, wanted)
            offsets, runs = await parts.on_disk(self._encode, found)
            if offsets:
                await parts.ask(RaiseDeadLetters(topic.topic_id, offsets, runs))
        if wanted.messages_per_second:
            await asyncio.sleep(len(offsets) / wanted.messages_per_second)
        return Resent(len(offsets), next_offset)

    def _find(self, topic: Topic, wanted: WantedResend) -> tuple[Sequence[_Found], int]:
        """What a chunk takes, and the offset behind it."""
        queue = self._parts.engine.queues.queue(QueueKey(topic.topic_id, 0))
        gone = self._parts.engine.leasing.gone(topic.topic_id)
        before = min(wanted.before_offset or queue.end, queue.end)
        first = max(wanted.first_offset, queue.lowest, gone.floor)
        offsets: Sequence[int] = wanted.offsets or range(first, before)
        most = min(wanted.max_messages, MOST_RESENT)
        found, size, behind = list[_Found](), 0, first
        for at in range(0, len(offsets), _STEP):
            for offset in offsets[at : at + _STEP]:
                if offset in gone or not queue.lowest <= offset < queue.end:
                    if wanted.offsets:
                        raise BadRequest(reason=f"there is no dead letter at offset {offset}")
                    behind = offset + 1
                    continue
                ((position, bytes_, _),) = decode_entries(queue.read(offset, 1))
                if len(found) >= most or (found and size + bytes_ > CHUNK_BYTES):
                    return found, behind
                found.append(_Found(offset, position, bytes_))
                size, behind = size + bytes_, offset + 1
        return found, behind

    def _encode(self, found: Sequence[_Found]) -> tuple[Sequence[int], Sequence[EncodedRun]]:
        """The copies of those that can be sent again, and their offsets."""
        parts = self._parts
        records = read_records(parts.engine.log, [(each.position, each.size) for each in found])
        by_topic, offsets = defaultdict[TopicName, list[int]](list), list[int]()
        for index, each in enumerate(found):
            given = records.attributes.get(index)
            if given is None or parts.catalog.topics.get(topic_before(given.properties)) is None:
                continue
            by_topic[topic_before(given.properties)].append(index)
            offsets.append(each.offset)
        runs, at_ms = list[EncodedRun](), parts.clock()
        for name, indexes in by_topic.items():
            topic = parts.catalog.topics.get(name)
            if topic is not None:
                attributes = {new: raised(records.attributes[at]) for new, at in enumerate(indexes)}
                batch = TopicBatch(
                    name,
                    [records.bodies[at] for at in indexes],
                    [records.keys[at] for at in indexes] if records.keys else (),
                    [records.tags[at] for at in indexes] if records.tags else (),
                    {at: given for at, given in attributes.items() if given != Attributes()},
                )
                runs += encode_batch(len(runs), topic, batch, found[0].offset % topic.write_queues, at_ms)
        return offsets, runs
