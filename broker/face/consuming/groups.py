"""Consumer groups: members come, commit and go; operators look, alter, reset and delete."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.delivery.dead_letters import topic_of
from broker.engine.commands import (
    AlterGroup,
    BeatGroup,
    CommitOffsets,
    DeleteGroup,
    DropSilent,
    GetGroup,
    LeaveGroup,
    ReleaseQueues,
    ResetOffsets,
)
from broker.errors import UnknownTopic
from broker.face.parts import Parts
from broker.groups.answers import GroupStatus, OffsetsNow, ResetDone
from broker.groups.policies import check_policy
from broker.groups.resetting import Reset
from broker.model import (
    Beat,
    BeatAnswer,
    Claim,
    Forgotten,
    GroupName,
    GroupPolicy,
    MemberId,
    OffsetCommit,
    QueueKey,
    TopicQueue,
)
from broker.queues.finding import stored_at
from broker.queues.topics import check_name


@dataclass(frozen=True, slots=True)
class GroupReport:
    """All of a group. Instants are milliseconds since the epoch; a queue of which all is done has none."""

    status: GroupStatus
    expires_at_ms: Mapping[MemberId, int]
    oldest_unread_at_ms: Mapping[TopicQueue, int]
    dead_letters: int


class Groups:
    """Belongs to one event loop. What ends something that was begun goes on while the broker drains."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def beat(self, sign: Beat) -> BeatAnswer:
        """Joins a group or stays in it. Raises BadName, ModeConflict, UnknownTopic."""
        check_name(sign.group, "group")
        for name in sorted(sign.topics):
            await self._parts.topic(name)
        answer = await self._parts.ask(BeatGroup(sign, self._parts.awake()))
        assert isinstance(answer, BeatAnswer)
        return answer

    async def release(self, name: GroupName, member_id: MemberId, claims: Sequence[Claim]) -> None:
        """Gives the queues to who should have them. Raises UnknownGroup."""
        await self._parts.finish(ReleaseQueues(name, member_id, claims))

    async def leave(self, name: GroupName, member_id: MemberId) -> None:
        """Gives everything the member owned, or had leased, to the others. Raises UnknownGroup."""
        await self._parts.finish(LeaveGroup(name, member_id))
        self._parts.waiters.wake({(name, key.topic_id) for key in self._parts.engine.leasing.floors(name)})

    async def commit(
        self, name: GroupName, member_id: MemberId, commits: Sequence[OffsetCommit]
    ) -> Sequence[OffsetCommit]:
        """The offsets as they are then. Raises NotOwner, OffsetOutOfRange, UnknownGroup: nothing is committed."""
        answer = await self._parts.finish(CommitOffsets(name, member_id, commits))
        assert isinstance(answer, OffsetsNow)
        self._parts.wake_gates(name, {commit.claim.at.topic for commit in commits})
        return answer.commits

    async def get(self, name: GroupName) -> GroupReport:
        """Raises UnknownGroup."""
        parts = self._parts
        status = await parts.ask(GetGroup(name, parts.awake()))
        assert isinstance(status, GroupStatus)
        members = status.group.members.items()
        to_wall = parts.clock() - parts.awake() * 1_000
        expires_at_ms = {member_id: int(member.expires * 1_000 + to_wall) for member_id, member in members}
        oldest = await parts.on_disk(self._oldest_unread, status)
        return GroupReport(status, expires_at_ms, oldest, self._dead_letters(name))

    def _oldest_unread(self, status: GroupStatus) -> dict[TopicQueue, int]:
        oldest = dict[TopicQueue, int]()
        for at, owned in status.group.queues.items():
            topic, held = self._parts.catalog.topics.get(at.topic), status.ranges.get(at)
            if topic is not None and held is not None and owned.offset < held.end_offset:
                queue = self._parts.engine.queues.queue(QueueKey(topic.topic_id, at.queue))
                oldest[at] = stored_at(self._parts.engine.log, queue, max(owned.offset, held.lowest_offset))
        return oldest

    def _dead_letters(self, name: GroupName) -> int:
        topic = self._parts.catalog.topics.get(topic_of(name))
        if topic is None:
            return 0
        (held,) = self._parts.catalog.of_topic(topic)
        return self._parts.engine.leasing.gone(topic.topic_id).left_of(held)

    def names(self) -> Sequence[GroupName]:
        """All groups, sorted."""
        return self._parts.engine.grouping.names()

    async def alter(self, name: GroupName, policy: GroupPolicy) -> GroupPolicy:
        """Sets the whole policy; makes the group if there is none. Raises BadName, BadRequest."""
        check_name(name, "group")
        check_policy(policy)
        await self._parts.ask(AlterGroup(name, policy))
        return policy

    async def delete(self, name: GroupName) -> None:
        """Raises GroupActive, UnknownGroup."""
        await self._parts.ask(DeleteGroup(name, self._parts.awake()))

    async def reset(self, reset: Reset) -> ResetDone:
        """Raises BadRequest, GroupActive, OffsetOutOfRange, OffsetsMoved, UnknownGroup, UnknownTopic."""
        topic = self._parts.catalog.topics.get(reset.topic)
        if topic is None:
            raise UnknownTopic(topic=reset.topic)
        answer = await self._parts.ask(ResetOffsets(reset, self._parts.awake()))
        assert isinstance(answer, ResetDone)
        self._parts.waiters.wake([(reset.group, topic.topic_id)])
        return answer

    async def drop_silent(self) -> int:
        """Lets go of the members that were silent for too long; returns how many."""
        answer = await self._parts.ask(DropSilent(self._parts.awake()))
        assert isinstance(answer, Forgotten)
        return answer.count
