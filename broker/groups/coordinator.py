"""Runs the consumer groups: applies each call to its group, and answers when what it changed is durable."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from broker.errors import UnknownGroup
from broker.groups import membership
from broker.groups.membership import Group, Ranges
from broker.groups.store import GroupStore
from broker.model import Beat, BeatAnswer, Claim, GroupName, MemberId, OffsetCommit, TopicName

RangesOf = Callable[[frozenset[TopicName]], Ranges]
"""Every queue of these topics, and what it holds."""


class _Kept:
    """A group and how much of its history is on disk."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.changes = 0
        self.saved = 0
        self.saving: asyncio.Task[None] | None = None


class Coordinator:
    """Belongs to one event loop. `clock` counts seconds and never goes back, `wall_clock` milliseconds."""

    def __init__(
        self,
        store: GroupStore,
        ranges_of: RangesOf,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], int],
        disk_pool: Executor,
        die: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._ranges_of = ranges_of
        self._clock = clock
        self._wall_clock = wall_clock
        self._disk_pool = disk_pool
        self._die = die
        self._groups = {name: _Kept(group) for name, group in store.load(clock()).items()}

    async def beat(self, sign: Beat) -> BeatAnswer:
        """Joins or stays; whoever was silent for too long is out, and what became free is given away."""
        kept = self._groups.setdefault(sign.group, _Kept(Group(sign.group)))
        now = self._clock()
        group = membership.without_silent(membership.beat(kept.group, sign, now), now)
        ranges = self._ranges_of(group.topics())
        self._change(kept, membership.settle(group, ranges))
        answer = membership.answer(kept.group, sign.member_id, ranges)
        await self._durable(kept)
        return answer

    async def release(self, name: GroupName, member_id: MemberId, claims: Sequence[Claim]) -> None:
        """Gives the queues to who should have them."""
        kept = self._kept(name)
        await self._settled(kept, membership.release(kept.group, member_id, claims))

    async def leave(self, name: GroupName, member_id: MemberId) -> None:
        """Gives everything the member owned to the others."""
        kept = self._kept(name)
        await self._settled(kept, membership.leave(kept.group, member_id))

    async def commit(
        self, name: GroupName, member_id: MemberId, commits: Sequence[OffsetCommit]
    ) -> Sequence[OffsetCommit]:
        """The offsets as they are then. Raises NotOwner, OffsetOutOfRange, UnknownGroup: nothing is committed."""
        kept = self._kept(name)
        ranges = self._ranges_of(frozenset(commit.claim.at.topic for commit in commits))
        self._change(kept, membership.commit(kept.group, member_id, commits, ranges))
        committed = [OffsetCommit(commit.claim, kept.group.queues[commit.claim.at].offset) for commit in commits]
        await self._durable(kept)
        return committed

    async def get(self, name: GroupName) -> tuple[Group, Ranges]:
        """The group without its silent members, and what its queues hold. Raises UnknownGroup."""
        kept = self._kept(name)
        group = membership.without_silent(kept.group, self._clock())
        await self._durable(kept)
        return group, self._ranges_of(frozenset(at.topic for at in group.queues))

    def expires_at_ms(self, group: Group) -> dict[MemberId, int]:
        """When each member is out if it stays silent, in milliseconds since the epoch."""
        to_wall = self._wall_clock() - self._clock() * 1_000
        return {member_id: int(member.expires * 1_000 + to_wall) for member_id, member in group.members.items()}

    def list(self) -> list[GroupName]:
        """By name."""
        return sorted(self._groups)

    def _kept(self, name: GroupName) -> _Kept:
        kept = self._groups.get(name)
        if kept is None:
            raise UnknownGroup(group=name)
        return kept

    async def _settled(self, kept: _Kept, group: Group) -> None:
        self._change(kept, membership.settle(group, self._ranges_of(group.topics())))
        await self._durable(kept)

    def _change(self, kept: _Kept, group: Group) -> None:
        """A beat alone moves only a member's expiry, which is not worth a write."""
        if (group.queues, group.lasting()) != (kept.group.queues, kept.group.lasting()):
            kept.changes += 1
        kept.group = group

    async def _durable(self, kept: _Kept) -> None:
        """One write answers everybody who changed the group before it began; it goes on though its caller leaves."""
        wanted = kept.changes
        while kept.saved < wanted:
            if kept.saving is None:
                kept.saving = asyncio.create_task(self._save(kept))
            await asyncio.shield(kept.saving)

    async def _save(self, kept: _Kept) -> None:
        writing = kept.changes
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk_pool, self._store.save, kept.group)
        except OSError as error:
            self._die(error)
        kept.saved, kept.saving = writing, None
