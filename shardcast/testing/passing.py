"""Time that passes at once: from one instant at which something is due to the next."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from admin.domain.trigger import due_at, trigger_of
from protos.errors import TimedOut
from shardcast.rest import RestClient
from shardcast.testing.clock import JumpingClock

LOOK_SECONDS = 0.005
_PAGE = 100

Body = dict[str, Any]


class Passing:
    """Lets the clock of a server pass, and looks through REST at what that leads to. Blocking."""

    def __init__(self, api: RestClient, clock: JumpingClock, set_clock: Callable[[datetime], None]) -> None:
        self._api = api
        self._clock = clock
        self._set_clock = set_clock

    def pass_by(self, by: timedelta, *, waits: bool, seconds: float) -> Sequence[str]:
        """The ids of the runs that were fired, oldest first. Raises TimedOut when one step took longer than that."""
        until, newest = self._clock() + by, self._newest()
        self._settle(newest, waits, seconds)
        while (due := self._next_due()) is not None and due < until:
            self._set_clock(due)
            self._settle(newest, waits, seconds)
        self._set_clock(until)
        self._settle(newest, waits, seconds)
        return [run["id"] for run in self._behind(newest) if run["cause"] == "fire"]

    def leap(self, by: timedelta, seconds: float) -> Sequence[str]:
        """As pass_by, in one step: what was due on the way is late."""
        newest = self._newest()
        self._set_clock(self._clock() + by)
        self._settle(newest, False, seconds)
        return [run["id"] for run in self._behind(newest) if run["cause"] == "fire"]

    def _settle(self, newest: str, waits: bool, seconds: float) -> None:
        """Returns when all that was due has fired and, if asked, what fired has nothing to do for now."""
        give_up_at = time.monotonic() + seconds
        while what := self._unsettled(newest, waits):
            if time.monotonic() > give_up_at:
                raise TimedOut(f"After {seconds:g} s {what}, at {self._clock().isoformat()} of the server's clock.")
            time.sleep(LOOK_SECONDS)

    def _unsettled(self, newest: str, waits: bool) -> str:
        """What is still to come; "": nothing."""
        now = self._clock()
        for name, due in self._fires():
            if due <= now:
                return f"the job {name}, due at {due.isoformat()}, has not fired"
        if waits:
            for run in self._active():
                if run["id"] > newest and any(_is_busy(shard, now) for shard in self._shards(run)):
                    return f"run {run['id']} of the job {run['job']} is {run['state']}"
        return ""

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

    def _behind(self, newest: str) -> Sequence[Body]:
        """Runs that are newer, oldest first; ids rise."""
        found: list[Body] = []
        token = ""
        while True:
            page = self._api.get("/runs", page_size=_PAGE, page_token=token or None)
            found += [run for run in page["runs"] if run["id"] > newest]
            token = page["next_page_token"]
            if not token or page["runs"][-1]["id"] <= newest:
                return found[::-1]


def _is_busy(shard: Body, now: datetime) -> bool:
    if shard["state"] == "waiting":
        return datetime.fromisoformat(shard["due_at"]) <= now
    return shard["state"] in ("assigned", "running")
