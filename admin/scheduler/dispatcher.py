"""Leases waiting shards to executors with free slots, and hands them over."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from admin.domain.names import Group
from admin.domain.routing import Room, route
from admin.operations.runs import bell_of
from admin.ports import Clock, Dispatch, FleetStore, Offer, RunStore, Wakeup
from admin.scheduler.loop import Counts, Loop

PERIOD_SECONDS = 0.25
SHARDS_A_ROUND = 1000  # of one group


class Dispatcher(Loop):
    """A lease is durable before its holder hears of it."""

    name = "dispatcher"

    def __init__(
        self,
        runs: RunStore,
        fleet: FleetStore,
        dispatch: Dispatch,
        wakeup: Wakeup,
        clock: Clock,
        *,
        lease: timedelta,
    ) -> None:
        super().__init__(wakeup, clock)
        self._runs = runs
        self._fleet = fleet
        self._dispatch = dispatch
        self._lease = lease
        self._assigned = 0

    async def run_once(self) -> Counts:
        self._assigned = 0
        now = self._clock()
        rooms = self._rooms(now)
        if not rooms:
            return {"assigned": 0}
        assignments = await self._runs.claim_waiting(self._lease, _offers(rooms), lambda waiting: route(waiting, rooms))
        self._dispatch.assign(assignments)
        self._assigned = len(assignments)
        for run_id in {assignment.run.id for assignment in assignments}:
            self._wakeup.ring(bell_of(run_id))
        return {"assigned": self._assigned}

    def _rooms(self, now: datetime) -> list[Room]:
        """Executors with a free slot; one that is silent would only keep a shard for a lease."""
        alive = (executor for executor in self._fleet.list() if executor.is_alive(now, self._lease))
        rooms = [executor.room for executor in alive if not executor.is_draining]
        return [room for room in rooms if room.used < room.slots]

    def pause_seconds(self) -> float:
        return 0.0 if self._assigned else PERIOD_SECONDS


def _offers(rooms: Sequence[Room]) -> Mapping[Group, Offer]:
    offers: dict[Group, Offer] = {}
    for room in rooms:
        before = offers.get(room.group, Offer(frozenset(), 0))
        slots = min(before.slots + room.slots - room.used, SHARDS_A_ROUND)
        offers[room.group] = Offer(frozenset(before.handlers) | room.handlers, slots)
    return offers
