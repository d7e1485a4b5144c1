"""A consumer group as a value, and what each call makes of it; nothing here does I/O or looks at a clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from broker.errors import NotOwner, OffsetOutOfRange
from broker.groups.assignment import assign
from broker.model import Beat, BeatAnswer, Claim, GroupName, MemberId, OffsetCommit, QueueRange, TopicName, TopicQueue

Ranges = Mapping[TopicQueue, QueueRange]
"""Every queue of every topic that a group reads, and what it holds."""

_LONGEST_BEAT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Member:
    """A reader; out of the group when it is silent beyond `expires` (seconds of a monotonic clock)."""

    topics: frozenset[TopicName]
    session_seconds: float
    expires: float
    from_latest: bool = False


@dataclass(frozen=True, slots=True)
class Owned:
    """A queue in the group: generation rises with each assignment, offset is read up to (not including)."""

    owner: MemberId | None
    generation: int
    offset: int


@dataclass(frozen=True, slots=True)
class Group:
    """One consumer group."""

    name: GroupName
    members: Mapping[MemberId, Member] = field(default_factory=dict)
    queues: Mapping[TopicQueue, Owned] = field(default_factory=dict)

    def with_queues(self, changed: Mapping[TopicQueue, Owned]) -> Self:
        return replace(self, queues={**self.queues, **changed}) if changed else self

    def owned_by(self, member_id: MemberId) -> dict[TopicQueue, Owned]:
        return {at: owned for at, owned in self.queues.items() if owned.owner == member_id}

    def lasting(self) -> Mapping[MemberId, Member]:
        """Its members with what of them outlives a restart."""
        return {member_id: replace(member, expires=0.0) for member_id, member in self.members.items()}

    def topics(self) -> frozenset[TopicName]:
        """All topics that its members read."""
        return frozenset[TopicName]().union(*(member.topics for member in self.members.values()))


def beat(group: Group, sign: Beat, now: float) -> Group:
    """The group with this member alive for one session timeout from now."""
    member = Member(sign.topics, sign.session_seconds, now + sign.session_seconds, sign.from_latest)
    return replace(group, members={**group.members, sign.member_id: member})


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


def settle(group: Group, ranges: Ranges) -> Group:
    """The group with every free queue given to whom it should belong to.

    A queue that has an owner stays where it is until it is released: `answer` asks for that.
    """
    changed = {}
    for at, member_id in _desired(group, ranges).items():
        known = group.queues.get(at)
        if known is None:
            begin = ranges[at].end_offset if group.members[member_id].from_latest else ranges[at].lowest_offset
            changed[at] = Owned(member_id, 1, begin)
        elif known.owner is None:
            changed[at] = Owned(member_id, known.generation + 1, known.offset)
    return group.with_queues(changed)


def _desired(group: Group, ranges: Ranges) -> dict[TopicQueue, MemberId]:
    readers = {member_id: member.topics for member_id, member in group.members.items()}
    owners = {at: owned.owner for at, owned in group.queues.items() if owned.owner is not None}
    return assign(ranges, readers, owners)


def answer(group: Group, member_id: MemberId, ranges: Ranges) -> BeatAnswer:
    """What a member is told: all it owns, and what of it somebody else should have."""
    desired = _desired(group, ranges)
    owned = {
        at: OffsetCommit(Claim(at, queue.generation), queue.offset) for at, queue in group.owned_by(member_id).items()
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
        if not _holds(group, member_id, wanted.claim):
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
