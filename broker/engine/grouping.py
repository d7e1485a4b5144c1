"""The engine's room of consumer groups: who is alive, who reads which queue, up to where, and how."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never, cast

from broker.engine.commands import (
    AlterGroup,
    BeatGroup,
    CommitOffsets,
    DeleteGroup,
    DropSilent,
    GetGroup,
    GroupingCommand,
    JoinByLease,
    LeaveGroup,
    MemberCommand,
    OperatorCommand,
    ReleaseQueues,
    ResetOffsets,
)
from broker.engine.journal import Journal
from broker.errors import GroupActive, OffsetsMoved, UnknownGroup
from broker.groups import membership
from broker.groups.answers import (
    GroupingAnswer,
    GroupStatus,
    LeaseCounts,
    Leases,
    OffsetsNow,
    Queues,
    ResetDone,
)
from broker.groups.changes import Change, Stored, applied, change_between, decode, encode, is_nothing
from broker.groups.membership import Group
from broker.groups.resetting import Reset, standing, targets
from broker.groups.tally import Tally
from broker.log.frame import Frame, Kind
from broker.model import (
    Beat,
    BeatAnswer,
    Claim,
    Forgotten,
    GroupName,
    GroupPolicy,
    MemberId,
    Mode,
    Topic,
    TopicName,
    TopicQueue,
)
from broker.queues.encoding import EncodedRun


class Grouping:
    """For the writer's thread; `groups`, `names`, `policy`, `committed` and `offsets` may be called from any."""

    def __init__(self, journal: Journal, queues: Queues, leases: Leases) -> None:
        self._journal = journal
        self._queues = queues
        self._leases = leases
        self._groups: dict[GroupName, Group] = {}
        self._consumed: dict[GroupName, Tally] = {}

    def do(self, command: GroupingCommand, now_ms: int) -> GroupingAnswer:
        """Raises BadRequest, GroupActive, ModeConflict, NotOwner, OffsetOutOfRange, OffsetsMoved, UnknownGroup."""
        if isinstance(command, MemberCommand):
            return self._do_for_member(command, now_ms)
        return self._do_for_operator(command, now_ms)

    def _do_for_member(self, command: MemberCommand, now_ms: int) -> GroupingAnswer:
        match command:
            case CommitOffsets():
                return self.commit(command, now_ms)
            case BeatGroup(sign, now):
                return self._beat(sign, now, now_ms)
            case JoinByLease(sign, now):
                return self._join_by_lease(sign, now, now_ms)
            case ReleaseQueues(name, member_id, claims):
                self._settle(membership.release(self._known(name), member_id, claims), now_ms)
            case LeaveGroup(name, member_id):
                self._leave(self._known(name), member_id, now_ms)
            case _:
                assert_never(command)
        return None

    def _do_for_operator(self, command: OperatorCommand, now_ms: int) -> GroupingAnswer:
        match command:
            case GetGroup(name, now):
                return self._get(name, now, now_ms)
            case AlterGroup(name, policy):
                return self._keep(replace(self._group(name), policy=policy), now_ms).policy
            case ResetOffsets(reset, now):
                return self._reset(reset, now, now_ms)
            case DeleteGroup(name, now):
                return self._delete(name, now, now_ms)
            case DropSilent(now):
                return self._drop_silent(now, now_ms)
            case _:
                assert_never(command)

    def count(self, name: GroupName, consumed: int, now_ms: int) -> None:
        """So many messages more are done, for the rate that GetGroup tells."""
        self._consumed.setdefault(name, Tally()).add(consumed, now_ms)

    def groups(self) -> list[Group]:
        """All groups, with the offsets of the way in which each reads."""
        return [self._shown(group) for group in [*self._groups.values()]]

    def names(self) -> Sequence[GroupName]:
        """Sorted."""
        return sorted([*self._groups])

    def policy(self, name: GroupName) -> GroupPolicy:
        """The default where there is no such group."""
        return self._group(name).policy

    def committed(self, name: GroupName, at: TopicQueue) -> int | None:
        """Up to where (not including) the group is done with a queue; None: it never read it."""
        group = self._groups.get(name)
        owned = self._shown(group).queues.get(at) if group else None
        return owned.offset if owned else None

    def offsets(self, name: GroupName) -> dict[TopicQueue, int]:
        """Up to where (not including) the group is done with each queue that it ever read."""
        group = self._groups.get(name)
        return {at: owned.offset for at, owned in self._shown(group).queues.items()} if group else {}

    def leases(self, name: GroupName) -> bool:
        """Whether the group reads by lease; for any thread."""
        group = self._groups.get(name)
        return group is not None and group.mode is Mode.LEASE

    def is_leasing(self, name: GroupName, member_id: MemberId) -> bool:
        """Whether the group reads by lease and knows the member; for any thread."""
        group = self._groups.get(name)
        return self.leases(name) and group is not None and member_id in group.members

    def owns(self, name: GroupName, member_id: MemberId, claim: Claim) -> bool:
        """Whether the member reads the claimed queue now; for any thread."""
        group = self._groups.get(name)
        owned = group.queues.get(claim.at) if group else None
        return owned is not None and (owned.owner, owned.generation) == (member_id, claim.generation)

    def hear(self, name: GroupName, member_id: MemberId, now: float) -> None:
        """The word of a member that leases is a sign of life; that of one that is none changes nothing."""
        if self.is_leasing(name, member_id):
            self._groups[name] = membership.heard(self._groups[name], member_id, now)

    def forget(self, topic: Topic, now_ms: int) -> None:
        """The topic goes: from here on no group has ever read it."""
        self._store(Stored(forgotten=topic.name), now_ms)
        self._leases.forget_topic(topic, now_ms)

    def replay(self, frame: Frame) -> None:
        """Does again what a stored frame of this room did."""
        self.apply(frame.payload)

    def apply(self, change: bytes) -> None:
        """Does again what was stored so, here or with what a burial stored."""
        self._apply(decode(change))

    def snapshot(self) -> object:
        """All groups, as JSON."""
        return [change_between(Group(name), group) for name, group in self._groups.items()]

    def restore(self, snapshot: object) -> None:
        """The inverse of `snapshot`, for a room without groups."""
        for change in cast(Sequence[Change], snapshot):
            self._apply(Stored(change=change))

    def _beat(self, sign: Beat, now: float, now_ms: int) -> BeatAnswer:
        group = membership.without_silent(self._group(sign.group), now)
        group = membership.beat(self._entered(group, Mode.OFFSET, now_ms), sign, now)
        self._settle(group, now_ms)
        group = self._known(sign.group)
        return membership.answer(group, sign.member_id, self._queues.ranges_of(group.topics()))

    def _join_by_lease(self, sign: Beat, now: float, now_ms: int) -> Group:
        group = self._entered(membership.without_silent(self._group(sign.group), now), Mode.LEASE, now_ms)
        known = group.members.get(sign.member_id)
        topics = sign.topics | known.topics if known else sign.topics
        return self._keep(membership.beat(group, replace(sign, topics=topics), now), now_ms)

    def _leave(self, group: Group, member_id: MemberId, now_ms: int) -> None:
        if group.mode is Mode.LEASE:
            self._leases.give_back(group.name, member_id, now_ms)
        self._settle(membership.leave(group, member_id), now_ms)

    def _entered(self, group: Group, mode: Mode, now_ms: int) -> Group:
        """The group read this way; one that changes over goes on where it stands. Raises ModeConflict."""
        if group.mode is mode:
            return group
        entered = membership.enter(group, mode, self._readers(group, now_ms))
        if mode is Mode.OFFSET:
            return membership.moved(entered, self._leases.floors(group.name)) if group.mode else entered
        self._leases.forget(group.name, now_ms)  # of a group of this name that was deleted, or of long ago
        self._leases.restart(group.name, {at: owned.offset for at, owned in group.queues.items()}, now_ms)
        return entered

    def _counts(self, group: Group, now_ms: int) -> LeaseCounts:
        return self._leases.counts(group.name, now_ms) if group.mode is Mode.LEASE else LeaseCounts()

    def _shown(self, group: Group) -> Group:
        return membership.standing_at(group, self._leases.floors(group.name)) if group.mode is Mode.LEASE else group

    def _settle(self, group: Group, now_ms: int) -> None:
        ranges = self._queues.ranges_of(group.topics())
        self._keep(membership.settle(group, ranges, self._queues.find), now_ms)

    def commit(self, command: CommitOffsets, now_ms: int, runs: Sequence[EncodedRun] = ()) -> OffsetsNow:
        """Moves offsets forward, and stores the runs by the same frame.

        Raises NotOwner, OffsetOutOfRange, UnknownGroup: then nothing is stored.
        """
        before = self._known(command.group)
        ranges = self._queues.ranges_of(frozenset(commit.claim.at.topic for commit in command.commits))
        after = self._keep(membership.commit(before, command.member_id, command.commits, ranges), now_ms, runs)
        self.count(before.name, membership.consumed(before, after, ranges), now_ms)
        return OffsetsNow([replace(given, offset=after.queues[given.claim.at].offset) for given in command.commits])

    def _get(self, name: GroupName, now: float, now_ms: int) -> GroupStatus:
        group = self._shown(membership.without_silent(self._known(name), now))
        ranges = self._queues.ranges_of(frozenset(at.topic for at in group.queues))
        group = membership.with_new_queues(group, ranges)
        tally = self._consumed.get(name)
        return GroupStatus(group, ranges, self._counts(group, now_ms), tally.per_second(now_ms) if tally else 0.0)

    def _reset(self, reset: Reset, now: float, now_ms: int) -> ResetDone:
        group = membership.without_silent(self._known(reset.group), now)
        ranges = self._queues.ranges_of(frozenset([reset.topic]))
        before, after = standing(self._shown(group), ranges), targets(reset.to, ranges, self._queues.find)
        if reset.expected not in (None, before):
            raise OffsetsMoved(group=reset.group, topic=reset.topic)
        if reset.preview:
            return ResetDone(before, after)
        if not reset.force:
            self._check_idle(group, now_ms)
        offsets = dict(zip(sorted(ranges), after, strict=True))
        if group.mode is Mode.LEASE:
            self._leases.restart(group.name, offsets, now_ms)
        self._settle(membership.moved(group, offsets), now_ms)
        return ResetDone(before, after)

    def _delete(self, name: GroupName, now: float, now_ms: int) -> Forgotten:
        self._check_idle(membership.without_silent(self._known(name), now), now_ms)
        self._store(Stored(deleted=name), now_ms)
        self._leases.forget(name, now_ms)
        return Forgotten(1)

    def _check_idle(self, group: Group, now_ms: int) -> None:
        """Raises GroupActive while anybody reads, or has messages."""
        if readers := self._readers(group, now_ms):
            raise GroupActive(group=group.name, readers=readers)

    def _readers(self, group: Group, now_ms: int) -> str:
        """Who keeps the group as it is, in words; "": nobody."""
        if group.members:
            return f"its members are {', '.join(sorted(group.members))}"
        counts = self._counts(group, now_ms)
        seconds = math.ceil((counts.until_ms - now_ms) / 1_000)
        gone = f"no member is alive, but {counts.leased} messages are leased for up to {seconds} s more"
        return gone if counts.leased else ""

    def _drop_silent(self, now: float, now_ms: int) -> Forgotten:
        """Lets members go in whose groups nobody beats any more, so that it is known since when those have none."""
        dropped = 0
        for group in [*self._groups.values()]:
            heard = membership.without_silent(group, now)
            if heard is not group:
                dropped += len(group.members) - len(heard.members)
                self._settle(heard, now_ms)
        return Forgotten(dropped)

    def _known(self, name: GroupName) -> Group:
        group = self._groups.get(name)
        if group is None:
            raise UnknownGroup(group=name)
        return group

    def _group(self, name: GroupName) -> Group:
        return self._groups.get(name) or Group(name)

    def _keep(self, after: Group, now_ms: int, runs: Sequence[EncodedRun] = ()) -> Group:
        """Takes the group as it is now; only what outlives a restart is worth a frame."""
        before = self._group(after.name)
        if not after.members and (before.members or not before.last_member_at_ms):
            after = replace(after, last_member_at_ms=now_ms)
        change = change_between(before, after)
        if not is_nothing(change):
            self._append(Stored(change=change), now_ms, runs)
        self._groups[after.name] = after
        return after

    def _store(self, stored: Stored, now_ms: int) -> None:
        self._append(stored, now_ms)
        self._apply(stored)

    def _append(self, stored: Stored, now_ms: int, runs: Sequence[EncodedRun] = ()) -> None:
        if runs:
            self._journal.append_change(Kind.BURIALS, encode(stored), runs, now_ms)
        else:
            self._journal.append(Kind.GROUPS, [encode(stored)], now_ms)

    def _apply(self, stored: Stored) -> None:
        if "change" in stored:
            name = GroupName(stored["change"]["name"])
            self._groups[name] = applied(self._group(name), stored["change"])
        if "deleted" in stored:
            self._groups.pop(GroupName(stored["deleted"]), None)
            self._consumed.pop(GroupName(stored["deleted"]), None)
        if "forgotten" in stored:
            topic = TopicName(stored["forgotten"])
            self._groups = {name: membership.without_topic(group, topic) for name, group in self._groups.items()}
