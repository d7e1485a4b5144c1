"""Who can take shards now, and the way of what was leased to its holders; planner and dispatcher share it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from admin.domain.names import Group
from admin.domain.routing import Assignment, Room, route
from admin.operations.runs import bell_of
from admin.ports import Clock, Dispatch, FleetStore, Offer, Takers, Wakeup

SHARDS_A_ROUND = 1000  # of one group


class Handover:
    """A lease is durable before its holder hears of it. One loop at a time counts the free slots and fills them."""

    def __init__(
        self, fleet: FleetStore, dispatch: Dispatch, wakeup: Wakeup, clock: Clock, *, lease: timedelta
    ) -> None:
        self._fleet = fleet
        self._dispatch = dispatch
        self._wakeup = wakeup
        self._clock = clock
        self._lease = lease
        self._turn = asyncio.Lock()
        self.is_behind = False
        """Whether shards may be waiting for a slot, so that what is new has to wait behind them."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Takers | None]:
        """Who takes what until the end of the block; None where nobody has a free slot."""
        async with self._turn:
            rooms = self._rooms()
            yield Takers(self._lease, _offers(rooms), lambda waiting: route(waiting, rooms)) if rooms else None

    def hand_over(self, assignments: Sequence[Assignment]) -> None:
        """Within the block: the slots count as taken at once."""
        self._dispatch.assign(assignments)
        for run_id in {assignment.run.id for assignment in assignments}:
            self._wakeup.ring(bell_of(run_id))

    def _rooms(self) -> list[Room]:
        """Executors with a free slot; one that is silent would only keep a shard for a lease."""
        now = self._clock()
        alive = (executor for executor in self._fleet.list() if executor.is_alive(now, self._lease))
        rooms = [executor.room for executor in alive if not executor.is_draining]
        return [room for room in rooms if room.used < room.slots]


def _offers(rooms: Sequence[Room]) -> Mapping[Group, Offer]:
    offers: dict[Group, Offer] = {}
    for room in rooms:
        before = offers.get(room.group, Offer(frozenset(), 0))
        slots = min(before.slots + room.slots - room.used, SHARDS_A_ROUND)
        offers[room.group] = Offer(frozenset(before.handlers) | room.handlers, slots)
    return offers
