"""Tells the other admins who is linked to this one, and learns who is linked to them."""

import asyncio
from contextlib import suppress
from datetime import timedelta

from admin.domain.names import AdminId
from admin.operations.fleet import SharedFleet
from admin.ports import Clock, FleetBook, Wakeup
from admin.scheduler.loop import Counts, Loop
from protos.errors import ShardcastError

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
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Others need not wait for a lease to see that this admin has left."""
        await super().run()
        with suppress(ShardcastError):
            await self._book.release(self._admin)

    async def run_once(self) -> Counts:
        async with self._turn:
            linked = self._fleet.linked.list()
            others = await self._book.extend(self._admin, linked, self._clock(), self._lease)
            self._fleet.see(others)
        return {"linked": len(linked), "admins": len(others.admins)}

    async def is_alone(self) -> bool:
        """Whether no other admin has been awake within a lease; looks anew."""
        await self.run_once()
        return self._fleet.is_alone

    def pause_seconds(self) -> float:
        return PERIOD_SECONDS
