"""Time that passes at once: from one instant at which something is due to the next."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from admin.domain.trigger import due_at, trigger_of
from protos.errors import TimedOut
from shardcast.rest import RestClient
from shardcast.testing.clock import JumpingClock

LOOK_SECONDS = 0.005
_PAGE = 100

Body = dict[str, Any]
Try = tuple[str, int, int]
"""Run id, shard, term."""

_HELD = ("assigned", "running")


class Passing:
    """Lets the clock of a server pass, and looks through REST at what that leads to. Blocking."""

    def __init__(self, api: RestClient, clock: JumpingClock, set_clock: Callable[[datetime], None]) -> None:
        self._api = api
        self._clock = clock
        self._set_clock = set_clock

    def pass_by(self, by: timedelta, *, waits: bool, seconds: float) -> Sequence[str]:
        """The ids of the runs that were fired, oldest first. Raises TimedOut when one step took longer than that."""
        until, newest = self._clock() + by, self._newest()
        beside = frozenset(chain.from_iterable(map(_tries, self._busy()))) if waits else None
        self._settle(beside, seconds)
        while (due := self._next_due()) is not None and due < until:
            self._set_clock(due)
            self._settle(beside, seconds)
        self._set_clock(until)
        self._settle(beside, seconds)
        return self._fired(newest)

    def leap(self, by: timedelta, seconds: float) -> Sequence[str]:
        """As pass_by, in one step: what was due on the way is late."""
        newest = self._newest()
        self._set_clock(self._clock() + by)
        self._settle(None, seconds)
        return self._fired(newest)

    def _settle(self, beside: Collection[Try] | None, seconds: float) -> None:
        """Returns when all that was due has fired, and what runs has nothing to do for now but for tries that go on
        beside; None: whatever runs."""
        give_up_at = time.monotonic() + seconds
        while what := self._unsettled(beside):
            if time.monotonic() > give_up_at:
                raise TimedOut(f"After {seconds:g} s {what}, at {self._clock().isoformat()} of the server's clock.")
            time.sleep(LOOK_SECONDS)

    def _unsettled(self, beside: Collection[Try] | None) -> str:
        """What is still to come; "": nothing."""
        now = self._clock()
        for name, due in self._fires():
            if due <= now:
                return f"the job {name}, due at {due.isoformat()}, has not fired"
        if beside is not None:
            for run, shard in self._busy():
                if _try(run, shard) not in beside:
                    return f"shard {shard['index']} of run {run['id']} of the job {run['job']} is {shard['state']}"
        return ""

    def _busy(self) -> Iterator[tuple[Body, Body]]:
        """Shards that are held, or will be as soon as somebody has a slot, with their runs."""
        for run in self._active():
            for shard in self._shards(run):
                if shard["state"] in _HELD or (
                    shard["due_at"] and datetime.fromisoformat(shard["due_at"]) <= self._clock()
                ):
                    yield run, shard

    def _next_due(self) -> datetime | None:
        """When the next thing happens that time alone leads to: a fire, or another try."""
        shards = (shard for run in self._active() for shard in self._shards(run))
        tries = [datetime.fromisoformat(shard["due_at"]) for shard in shards if shard["due_at"]]
        now = self._clock()
        return min((due for due in (*tries, *(due for _, due in self._fires())) if due > now), default=None)

    def _active(self) -> Sequence[Body]:
        """Runs that have not ended. The running ones last: a run that begins meanwhile is not missed."""
        return [
            run for state in ("waiting", "running") for run in self._api.get_all("/runs", "runs", state=state)["runs"]
        ]

    def _fires(self) -> Iterator[tuple[str, datetime]]:
        """Of each job that will fire: its name, and when it is due."""
        for job in self._api.get_all("/jobs", "jobs")["jobs"]:
            if job["next_fire_at"] and not job["paused"]:
                fire_at = datetime.fromisoformat(job["next_fire_at"])
                yield job["name"], due_at(trigger_of(job["trigger"]), fire_at, job["name"])

    def _shards(self, run: Body) -> Sequence[Body]:
        """Those of a run that may go on; none of one that waits for another run, or for an executor."""
        if run["ended_at"] or run["reason"]:
            return []
        shards: Sequence[Body] = self._api.get(f"/runs/{run['id']}/shards")["shards"]
        return shards

    def _newest(self) -> str:
        runs = self._api.get("/runs", page_size=1)["runs"]
        return str(runs[0]["id"]) if runs else ""

    def _fired(self, newest: str) -> Sequence[str]:
        """Runs of fires that are newer, oldest first; ids rise."""
        found: list[Body] = []
        token = ""
        while True:
            page = self._api.get("/runs", page_size=_PAGE, page_token=token or None)
            found += [run for run in page["runs"] if run["id"] > newest]
            token = page["next_page_token"]
            if not token or page["runs"][-1]["id"] <= newest:
                return [run["id"] for run in reversed(found) if run["cause"] == "fire"]


def _try(run: Body, shard: Body) -> Try:
    return run["id"], shard["index"], shard["term"]


def _tries(busy: tuple[Body, Body]) -> Sequence[Try]:
    """The one that is under way, or the one that begins any moment."""
    run_id, index, term = _try(*busy)
    return [(run_id, index, term), *([] if busy[1]["state"] in _HELD else [(run_id, index, term + 1)])]
