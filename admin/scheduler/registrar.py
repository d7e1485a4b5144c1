"""Tells the other admins who is linked to this one, and learns who is linked to them."""

from datetime import timedelta

from admin.domain.names import AdminId
from admin.operations.fleet import SharedFleet
from admin.ports import Clock, FleetBook, Wakeup
from admin.scheduler.loop import Counts, Loop

PERIOD_SECONDS = 0.5


class Registrar(Loop):
    """What it learns is as old as its pause; nothing that must be right rests on it."""

    name = "registrar"

    def __init__(
        self, admin: AdminId, book: FleetBook, fleet: SharedFleet, wakeup: Wakeup, clock: Clock, *, lease: timedelta
    ) -> None:
        super().__init__(wakeup, clock)
        self._admin = admin
        self._book = book
        self._fleet = fleet
        self._lease = lease

    async def run_once(self) -> Counts:
        linked = self._fleet.linked.list()
        others = await self._book.extend(self._admin, linked, self._clock(), self._lease)
        self._fleet.see(others)
        return {"linked": len(linked), "admins": len(others.admins)}

    def pause_seconds(self) -> float:
        return PERIOD_SECONDS
