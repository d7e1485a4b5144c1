"""Takes shards from executors that fell silent."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial

import structlog

from admin.domain.run import Run, on_lapse
from admin.domain.shard import Event, Shard
from admin.operations.runs import ring_for
from admin.ports import Changed, Clock, Dispatch, RunStore, Wakeup
from admin.scheduler.loop import Counts, Loop

log = structlog.get_logger(__name__)

PERIOD_SECONDS = 0.25
SHARDS_A_ROUND = 1000


class Reaper(Loop):
    """An admin that was away (just started, or stopped for a while) heard no beats, so it waits one lease first, unless
    others were awake to hear them.

    So it does when its clock was set, forwards or back: what the leases say is then of no use.
    """

    name = "reaper"

    def __init__(
        self,
        runs: RunStore,
        dispatch: Dispatch,
        wakeup: Wakeup,
        clock: Clock,
        *,
        lease: timedelta,
        is_alone: Callable[[], Awaitable[bool]],
    ) -> None:
        super().__init__(wakeup, clock)
        self._runs = runs
        self._dispatch = dispatch
        self._lease = lease
        self._is_alone = is_alone
        self._awake_at: datetime | None = None

    async def run_once(self) -> Counts:
        now = self._clock()
        was_away = self._awake_at is None or not timedelta() <= now - self._awake_at <= self._lease / 2
        if was_away and await self._is_alone():
            self._awake_at = now
            return {"extended": await self._runs.extend(self._lease), "lost": 0}
        self._awake_at = now
        changed = await self._runs.claim_lapsed(SHARDS_A_ROUND, partial(self._lapse, now))
        self._tell(changed)
        return {"extended": 0, "lost": sum(changed.steps)}

    def clock_was_set(self) -> None:
        """However little it was: much may come of many times."""
        self._awake_at = None
        super().clock_was_set()

    def _lapse(self, looked_at: datetime, shard: Shard, run: Run, now: datetime) -> Event | None:
        """None also where the clock was set since the round began: that is for the next one to see."""
        is_set = not timedelta() <= self._clock() - looked_at <= self._lease / 2
        return None if is_set else on_lapse(shard, run, now)

    def pause_seconds(self) -> float:
        """Well within what counts as away."""
        return min(PERIOD_SECONDS, self._lease.total_seconds() / 8)

    def _tell(self, changed: Changed) -> None:
        lapsed = [found[0] for found, stepped in zip(changed.before, changed.steps, strict=True) if found and stepped]
        for shard in lapsed:
            if shard.holder is not None:
                ids = {"run_id": shard.run_id, "shard": shard.index, "term": shard.term, "holder": shard.holder}
                log.warning("lease lapsed", action="lease_lapsed", **ids)
                self._dispatch.release(shard.holder, [shard.current])
        ring_for(self._wakeup, changed.runs)
        if lapsed:
            self._wakeup.ring("dispatcher")
