"""Who can take shards now, and the way of what was leased to its holders; planner and dispatcher share it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from admin.domain.names import Group
from admin.domain.routing import Assignment, Room, route
from admin.domain.run import on_refusal
from admin.operations.runs import bell_of
from admin.ports import Change, Clock, Decide, Dispatch, FleetStore, Offer, RunStore, Takers, Wakeup

SHARDS_A_ROUND = 1000  # of one group


class Handover:
    """A lease is durable before its holder hears of it. One loop at a time counts the free slots and fills them."""

    def __init__(
        self, runs: RunStore, fleet: FleetStore, dispatch: Dispatch, wakeup: Wakeup, clock: Clock, *, lease: timedelta
    ) -> None:
        self._runs = runs
        self._fleet = fleet
        self._dispatch = dispatch
        self._wakeup = wakeup
        self._clock = clock
        self._lease = lease
        self._turn = asyncio.Lock()
        self._caught_up: set[Group] = set()

    @asynccontextmanager
    async def turn(self, *, of_new: bool = False) -> AsyncIterator[Takers | None]:
        """Who takes what until the end of the block; None where nobody has a free slot. New runs go only to groups of
        which nothing older waits.
        """
        async with self._turn:
            rooms = [room for room in self._rooms() if not of_new or room.group in self._caught_up]
            yield Takers(self._lease, _offers(rooms), lambda waiting: route(waiting, rooms)) if rooms else None

    def know_waiting(self, takers: Takers, assignments: Sequence[Assignment]) -> None:
        """Of a group that was offered for and got nothing, nothing waits."""
        self._caught_up |= takers.offers.keys()
        self._caught_up -= {assignment.run.group for assignment in assignments}

    def know_left(self, groups: Iterable[Group]) -> None:
        """Something new of these groups waits."""
        self._caught_up.difference_update(groups)

    async def hand_over(self, assignments: Sequence[Assignment]) -> None:
        """Within the block: the slots count as taken at once. What nobody is there for any more waits for another."""
        untold = self._dispatch.assign(assignments)
        for run_id in {assignment.run.id for assignment in assignments}:
            self._wakeup.ring(bell_of(run_id))
        if untold:
            self.know_left(each.run.group for each in untold)
            await self._runs.finish([Change(each.shard.key, _handed_back(each)) for each in untold])

    def _rooms(self) -> list[Room]:
        """Executors with a free slot; one that is silent would only keep a shard for a lease."""
        now = self._clock()
        alive = (executor for executor in self._fleet.list() if executor.is_alive(now, self._lease))
        rooms = [executor.room for executor in alive if not executor.is_draining]
        return [room for room in rooms if room.used < room.slots]


def _handed_back(assignment: Assignment) -> Decide:
    shard = assignment.shard
    return lambda now_it, run, now: (
        None if shard.holder is None else on_refusal(now_it, shard.holder, shard.current, run, now)
    )


def _offers(rooms: Sequence[Room]) -> Mapping[Group, Offer]:
    offers: dict[Group, Offer] = {}
    for room in rooms:
        before = offers.get(room.group, Offer(frozenset(), 0))
        slots = min(before.slots + room.slots - room.used, SHARDS_A_ROUND)
        offers[room.group] = Offer(frozenset(before.handlers) | room.handlers, slots)
    return offers
