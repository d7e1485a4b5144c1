"""A consumer group as a value, and what each call makes of it; nothing here does I/O or looks at a clock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, assert_never

from broker.errors import ModeConflict, NotOwner, OffsetOutOfRange
from broker.groups.assignment import assign
from broker.model import (
    Beat,
    BeatAnswer,
    Claim,
    Edge,
    GroupName,
    GroupPolicy,
    MemberId,
    Mode,
    OffsetCommit,
    QueueRange,
    Since,
    Start,
    TopicName,
    TopicQueue,
)

Ranges = Mapping[TopicQueue, QueueRange]
"""Every queue of every topic that a group reads, and what it holds."""

Find = Callable[[TopicQueue, int], int]
"""The offset of a queue's first message stored at an instant (milliseconds since the epoch) or later."""

DEFAULT_POLICY = GroupPolicy()
_LONGEST_BEAT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Member:
    """A reader; out of the group when it is silent beyond `expires` (seconds of a monotonic clock)."""

    topics: frozenset[TopicName]
    session_seconds: float
    expires: float
    start: Start = Edge.EARLIEST


@dataclass(frozen=True, slots=True)
class Owned:
    """A queue in the group: generation rises with each assignment, offset is read up to (not including)."""

    owner: MemberId | None
    generation: int
    offset: int


@dataclass(frozen=True, slots=True)
class Group:
    """One consumer group. `last_member_at_ms` is when it lost its last member, or was made: since the epoch.

    Queues that it has forgotten had generations up to `past_generation`: those of a new topic of that name are higher.
    """

    name: GroupName
    members: Mapping[MemberId, Member] = field(default_factory=dict)
    queues: Mapping[TopicQueue, Owned] = field(default_factory=dict)
    mode: Mode | None = None
    policy: GroupPolicy = DEFAULT_POLICY
    last_member_at_ms: int = 0
    past_generation: int = 0

    def with_queues(self, changed: Mapping[TopicQueue, Owned]) -> Self:
        return replace(self, queues={**self.queues, **changed}) if changed else self

    def owned_by(self, member_id: MemberId) -> dict[TopicQueue, Owned]:
        return {at: owned for at, owned in self.queues.items() if owned.owner == member_id}

    def topics(self) -> frozenset[TopicName]:
        """All topics that its members read."""
        return frozenset[TopicName]().union(*(member.topics for member in self.members.values()))


def enter(group: Group, mode: Mode, readers: str) -> Group:
    """The group read this way. Raises ModeConflict while there are readers the other way."""
    if group.mode not in (None, mode) and readers:
        raise ModeConflict(group=group.name, mode=group.mode, readers=readers)
    return replace(group, mode=mode)


def beat(group: Group, sign: Beat, now: float) -> Group:
    """The group with this member alive for one session timeout from now."""
    member = Member(sign.topics, sign.session_seconds, now + sign.session_seconds, sign.start)
    return replace(group, members={**group.members, sign.member_id: member})


def heard(group: Group, member_id: MemberId, now: float) -> Group:
    """The group with a member that is alive so for one session timeout from now."""
    member = group.members.get(member_id)
    if member is None or member.expires <= now:
        return group
    return replace(group, members={**group.members, member_id: replace(member, expires=now + member.session_seconds)})


def without_silent(group: Group, now: float) -> Group:
    """The group without the members whose session has run out."""
    silent = [member_id for member_id, member in group.members.items() if member.expires <= now]
    for member_id in silent:
        group = leave(group, member_id)
    return group


def leave(group: Group, member_id: MemberId) -> Group:
    """The group without this member; its queues are free."""
    freed = {at: replace(owned, owner=None) for at, owned in group.owned_by(member_id).items()}
    members = {known: member for known, member in group.members.items() if known != member_id}
    return replace(group.with_queues(freed), members=members)


def release(group: Group, member_id: MemberId, claims: Sequence[Claim]) -> Group:
    """The group with these queues free; a claim that the member does not hold any more changes nothing."""
    held = (claim for claim in claims if _holds(group, member_id, claim))
    return group.with_queues({claim.at: replace(group.queues[claim.at], owner=None) for claim in held})


def settle(group: Group, ranges: Ranges, find: Find) -> Group:
    """The group with every free queue given to whom it should belong to; nobody owns queues of a group that leases.

    A queue that has an owner stays where it is until it is released: `answer` asks for that.
    """
    if group.mode is Mode.LEASE:
        return group
    changed = {}
    for at, member_id in _desired(group, ranges).items():
        known = group.queues.get(at)
        if known is None:
            changed[at] = Owned(
                member_id, group.past_generation + 1, begin(group, group.members[member_id].start, at, ranges[at], find)
            )
        elif known.owner is None:
            changed[at] = replace(known, owner=member_id, generation=known.generation + 1)
    return group.with_queues(changed)


def begin(group: Group, start: Start, at: TopicQueue, held: QueueRange, find: Find) -> int:
    """Where the group begins to read a queue that it never read.

    A queue that came to a topic which the group reads already begins at its lowest offset: nothing of it was ever
    "before".
    """
    is_new_queue = any(known.topic == at.topic for known in group.queues)
    return held.lowest_offset if is_new_queue else offset_of(start, at, held, find)


def offset_of(start: Start, at: TopicQueue, held: QueueRange, find: Find) -> int:
    """The offset of a queue that a start means."""
    match start:
        case Edge.EARLIEST:
            return held.lowest_offset
        case Edge.LATEST:
            return held.end_offset
        case Since(at_ms):
            return min(max(find(at, at_ms), held.lowest_offset), held.end_offset)
        case _:
            assert_never(start)


def _desired(group: Group, ranges: Ranges) -> dict[TopicQueue, MemberId]:
    readers = {member_id: member.topics for member_id, member in group.members.items()}
    owners = {at: owned.owner for at, owned in group.queues.items() if owned.owner is not None}
    return assign(ranges, readers, owners)


def answer(group: Group, member_id: MemberId, ranges: Ranges) -> BeatAnswer:
    """What a member is told: all it owns, and what of it somebody else should have.

    Where messages went before they were read, it goes on at the lowest offset that is stored.
    """
    desired = _desired(group, ranges)
    owned = {
        at: OffsetCommit(Claim(at, queue.generation), max(queue.offset, ranges[at].lowest_offset))
        for at, queue in group.owned_by(member_id).items()
        if at in ranges
    }
    release = [commit.claim for at, commit in owned.items() if desired.get(at) != member_id]
    beat_seconds = min(group.members[member_id].session_seconds / 3, _LONGEST_BEAT_SECONDS)
    return BeatAnswer([*owned.values()], release, beat_seconds)


def commit(group: Group, member_id: MemberId, commits: Sequence[OffsetCommit], ranges: Ranges) -> Group:
    """The group read further; an offset behind the committed one changes nothing.

    Raises NotOwner, OffsetOutOfRange: then none of the commits counts.
    """
    changed = dict[TopicQueue, Owned]()
    for wanted in commits:
        at = wanted.claim.at
        if not _holds(group, member_id, wanted.claim) or at not in ranges:
            raise NotOwner(
                member_id=member_id, group=group.name, topic=at.topic, queue=at.queue,
                generation=wanted.claim.generation,
            )  # fmt: skip
        holds = ranges[at]
        if wanted.offset > holds.end_offset:
            raise OffsetOutOfRange(
                offset=wanted.offset, topic=at.topic, queue=at.queue, lowest=holds.lowest_offset, end=holds.end_offset
            )
        known = changed.get(at, group.queues[at])
        if wanted.offset > known.offset:
            changed[at] = replace(known, offset=wanted.offset)
    return group.with_queues(changed)


def _holds(group: Group, member_id: MemberId, claim: Claim) -> bool:
    known = group.queues.get(claim.at)
    return known is not None and known.owner == member_id and known.generation == claim.generation


def consumed(before: Group, after: Group, ranges: Ranges) -> int:
    """How many messages the group has read between these states, in the queues that hold `ranges`."""
    return sum(
        max(0, after.queues[at].offset - max(owned.offset, ranges[at].lowest_offset))
        for at, owned in before.queues.items()
        if at in ranges and after.queues[at] is not owned
    )


def standing_at(group: Group, offsets: Mapping[TopicQueue, int]) -> Group:
    """The group as it stands when these are its committed offsets."""
    nobody = Owned(None, 0, 0)
    return group.with_queues(
        {at: replace(group.queues.get(at, nobody), offset=offset) for at, offset in offsets.items()}
    )


def with_new_queues(group: Group, ranges: Ranges) -> Group:
    """The group with the queues that came to its topics since it was last settled: nobody has them yet, and all of them
    is unread."""
    known = group.queues
    return group.with_queues({at: Owned(None, 0, held.lowest_offset) for at, held in ranges.items() if at not in known})


def moved(group: Group, offsets: Mapping[TopicQueue, int]) -> Group:
    """The group at these offsets: whoever owned one of the queues has lost it, and who gets it has a new generation."""
    freed = {at: replace(owned, owner=None) for at, owned in group.queues.items() if at in offsets}
    return standing_at(group.with_queues(freed), offsets)


def without_topic(group: Group, topic: TopicName) -> Group:
    """The group as if it had never read the topic."""
    past = (owned.generation for at, owned in group.queues.items() if at.topic == topic)
    return replace(
        group,
        queues={at: owned for at, owned in group.queues.items() if at.topic != topic},
        past_generation=max((group.past_generation, *past)),
    )
