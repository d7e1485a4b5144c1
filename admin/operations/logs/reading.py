"""Logs of runs: read, followed, and forgotten when they are old or too many."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from admin.domain.logs import LoggedLine, Position
from admin.domain.names import RunId
from admin.domain.run import ACTIVE
from admin.operations.runs import bell_of
from admin.ports import RunLogs, RunStore, Wakeup

TAIL_SECONDS = 1.0  # a follower looks again after this time even if no bell rang: another admin may have written
TAIL_LINES = 500  # read at once


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some lines of a log, and whether they are the last for now, and for ever."""

    lines: Sequence[LoggedLine]
    position: Position  # behind the last of them
    has_more: bool
    has_ended: bool  # the run had when they were read: then nothing comes behind the last page


@dataclass(frozen=True, slots=True)
class Logs:
    """What can be read of the logs of runs."""

    logs: RunLogs
    runs: RunStore
    wakeup: Wakeup

    async def list(self, run_id: RunId, *, after: Position, shard: int | None, limit: int) -> LogPage:
        """Lines behind a position, in the order in which they were stored. Raises UnknownRun."""
        run = await self.runs.get(run_id)  # first: what is stored before a run ends is seen by who sees its end
        found = await self.logs.list(run_id, after=after, shard=shard, limit=limit + 1)
        lines = found[:limit]
        position = lines[-1].position if lines else after
        return LogPage(lines, position, len(found) > limit, run.state not in ACTIVE)

    async def tail(
        self, run_id: RunId, *, after: Position, shard: int | None, follow: bool
    ) -> AsyncIterator[LoggedLine]:
        """The lines so far, then, if followed, those that come until the run has ended. Raises UnknownRun."""
        with self.wakeup.listen(bell_of(run_id)) as bell:
            while True:
                page = await self.list(run_id, after=after, shard=shard, limit=TAIL_LINES)
                for line in page.lines:
                    yield line
                after = page.position
                if page.has_more:
                    continue
                if page.has_ended or not follow:
                    return
                await bell.wait(TAIL_SECONDS)


@dataclass(frozen=True, slots=True)
class LogRetention:
    """How long logs stay, and how much of them. Has its turn in the pruner."""

    logs: RunLogs
    keep: timedelta
    max_bytes: int
    name: str = "log_chunks"

    async def prune(self, now: datetime, limit: int) -> int:
        """Forgets what is too old or too much; how many chunks, at most `limit`."""
        return await self.logs.prune(now - self.keep, self.max_bytes, limit)
