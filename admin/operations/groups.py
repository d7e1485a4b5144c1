"""Consumer groups: how far they are, how they are redelivered to, where they go on, and what they gave up."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from admin.operations.paging import Page, page_of
from admin.ports import Groups
from broker.client.operating.dead_letters import DeadLetters, Resent
from broker.client.operating.groups import GroupState, Reset, ResetTarget
from broker.errors import UnknownGroup
from broker.model import GroupPolicy

RESEND_SECONDS = 5.0  # of one call; who resends many at a rate calls again
MOST_RESENT = 1_000  # by one call


@dataclass(frozen=True, slots=True)
class Resending:
    """Which dead letters to send again: those named, else all from `first_offset` up to `before_offset`."""

    offsets: Sequence[int]
    first_offset: int
    before_offset: int  # 0: up to the end as it is now
    messages_per_second: float  # 0: as fast as it goes


@dataclass(frozen=True, slots=True)
class GroupDesk:
    """What can be done to consumer groups. Everything may raise what the broker refuses with, and BrokerAway."""

    groups: Groups

    async def list(self, *, topic: str | None, after: str, size: int) -> Page[GroupState]:
        """By name, those behind one: all, or those that read a topic."""
        if topic is None:
            names = sorted(name for name in await self.groups.list() if name > after)
            found = await self._all(names[: size + 1])
        else:
            found = [group for group in await self.readers(topic) if group.name > after][: size + 1]
        return page_of(found, size, lambda group: group.name)

    async def readers(self, topic: str) -> Sequence[GroupState]:
        """Those that read a topic, by name."""
        groups = await self._all(sorted(await self.groups.list()))
        return [group for group in groups if any(queue.topic == topic for queue in group.queues)]

    async def _all(self, names: Iterable[str]) -> Sequence[GroupState]:
        """Those that are there; one may have gone since its name was told."""
        found = await asyncio.gather(*map(self.groups.get, names), return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, UnknownGroup):
                raise each
        return [each for each in found if not isinstance(each, BaseException)]

    async def get(self, name: str) -> GroupState:
        """Raises UnknownGroup."""
        return await self.groups.get(name)

    async def alter(self, name: str, edit: Callable[[GroupPolicy], GroupPolicy]) -> GroupState:
        """Makes the group if there is none: its policy can be set before anybody reads. Raises BadName, BadRequest."""
        try:
            policy = (await self.groups.get(name)).policy
        except UnknownGroup:
            policy = GroupPolicy()
        await self.groups.alter(name, edit(policy))
        return await self.groups.get(name)

    async def delete(self, name: str) -> None:
        """Raises UnknownGroup, GroupActive."""
        await self.groups.delete(name)

    async def preview_reset(self, name: str, topic: str, to: ResetTarget) -> Reset:
        """What a reset would do. Raises UnknownGroup, UnknownTopic, OffsetOutOfRange."""
        return await self.groups.preview_reset(name, topic, to)

    async def reset(
        self, name: str, topic: str, to: ResetTarget, *, expected: Sequence[int] | None, force: bool
    ) -> Reset:
        """Raises UnknownGroup, UnknownTopic, OffsetOutOfRange, OffsetsMoved, GroupActive."""
        return await self.groups.reset(name, topic, to, expected=expected, force=force)

    async def dead_letters(self, name: str, offset: int, limit: int) -> DeadLetters:
        """From an offset on, the oldest first. Raises UnknownGroup."""
        await self.groups.get(name)
        return await self.groups.dead_letters(name, offset, limit)

    async def resend(self, name: str, order: Resending) -> Resent:
        """Sends some again, as many as go within seconds. Raises UnknownGroup."""
        rate = order.messages_per_second
        limit = min(MOST_RESENT, max(1, int(rate * RESEND_SECONDS))) if rate else MOST_RESENT
        return await self.groups.resend(
            name, order.offsets, first=order.first_offset, before=order.before_offset, limit=limit, rate=rate
        )

    async def purge(self, name: str, offsets: Sequence[int]) -> int:
        """Drops those named, or all; tells how many. Raises UnknownGroup."""
        return await self.groups.purge(name, offsets)
