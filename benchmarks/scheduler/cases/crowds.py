"""Many jobs due in the same second, and healthy jobs beside an executor that hangs."""

import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

from benchmarks.figures import Figure
from benchmarks.scheduler.api import Jobs, once, one_second_jobs
from benchmarks.scheduler.daemons import running_executor
from benchmarks.scheduler.measure import percentile
from benchmarks.scheduler.rounds import hold_rate
from benchmarks.scheduler.stage import Options, figure, stage

_LEAD_SECONDS = 2
_CREATES_A_SECOND = 500  # a guess: how far ahead the due time lies
_PATIENCE = 60.0

_HEALTHY = 50
_HUNG = 20
_HUNG_GROUP = "bench-hung"


async def burst(options: Options) -> AsyncIterator[Figure]:
    """Seconds from the due time until the last of them has started."""
    count = options.burst
    async with stage() as on:
        due = math.ceil(time.time() + _LEAD_SECONDS + count / _CREATES_A_SECOND)
        await on.api.create(Jobs(count, once(datetime.fromtimestamp(due, UTC))))
        ahead = due - time.time()
        await on.executor.accepted(count, max(ahead, 0) + _PATIENCE)
        samples = await on.executor.samples()
    arrivals = Counter(arrival.number for arrival in samples.arrivals)
    late = sorted(arrival.at - 1_000 * due for arrival in samples.arrivals)
    settings = {
        "jobs": count,
        "made": f"{ahead:.1f} s ahead",
        "lost": count - len(arrivals),
        "doubled": arrivals.total() - len(arrivals),
        "finished": len(set(samples.accepted)),
        "half of them after": f"{percentile(late, 50) / 1_000:.2f} s",
    }
    yield figure(f"burst {count}", percentile(late, 100) / 1_000, "s", settings)


async def hung_executor(options: Options) -> AsyncIterator[Figure]:
    """How late healthy jobs are beside jobs whose executor beats, and answers nothing else."""
    longer = replace(options, seconds=2 * options.seconds)
    async with (
        stage() as on,
        running_executor(on.admin, on.directory / "hung", _HUNG_GROUP, is_hung=True),
    ):
        await on.api.create(one_second_jobs(_HUNG, first=_HEALTHY, group=_HUNG_GROUP))
        came = await hold_rate(on, _HEALTHY, 0, longer)
    settings = {"healthy/s": _HEALTHY, "hung/s": _HUNG, "seconds": longer.seconds, **came.settings()}
    for percent in (50, 99):
        yield figure(f"hung executor p{percent}", percentile(came.window.late, percent), "ms", settings)
