"""The only admin is killed and started again at once, while one-second jobs run."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence

from benchmarks.figures import Figure
from benchmarks.scheduler.api import Jobs, one_second_jobs
from benchmarks.scheduler.daemons import Samples
from benchmarks.scheduler.stage import Options, Stage, figure, stage
from benchmarks.servers import Skipped
from protos.admin.v1.run_pb2 import Run

_JOBS = 100
_PATIENCE = 60.0
_UNDER_WAY_MS = 200  # what was sent before the kill has arrived by then, and no admin starts faster


async def restart(options: Options) -> AsyncIterator[Figure]:
    """Seconds until it is ready, and until the first fire of the new life arrives."""
    async with stage() as on:
        jobs = one_second_jobs(_JOBS)
        await on.api.create(jobs)
        begin = round(max(time.time(), jobs.begin_ms / 1_000)) + 1
        await asyncio.sleep(begin + options.warm_up - time.time())
        killed = time.time()
        await on.admin.kill()
        ready = await on.admin.start()
        end = round(time.time()) + options.seconds
        await asyncio.sleep(end - time.time() + 1)
        runs = await _settled_runs(on, 1_000 * begin, 1_000 * end)
        samples = await on.executor.samples()
    again = 1_000 * killed + _UNDER_WAY_MS
    later = [arrival.at for arrival in samples.arrivals if arrival.at > again]
    if not later:
        raise Skipped("no fire arrived behind the restart")
    settings = {**_accounts(jobs, runs, samples, begin, end), "jobs": _JOBS}
    yield figure("restart ready", ready, "s", settings)
    yield figure("restart first fire", later[0] / 1_000 - killed, "s", settings)


async def _settled_runs(on: Stage, begin: int, end: int) -> Sequence[Run]:
    """The runs whose fire time lies in the window, once all of them have ended or the patience is over."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        runs = [run for run in await on.api.runs() if begin <= run.fire_time_ms < end]
        if all(run.ended_at_ms for run in runs) or time.monotonic() > deadline:
            return runs
        await asyncio.sleep(0.5)


def _accounts(jobs: Jobs, runs: Sequence[Run], samples: Samples, begin: int, end: int) -> Mapping[str, object]:
    """Fires are missing when no run is listed for them: the policy of the jobs is to fire all, late ones too."""
    listed = Counter((run.job, run.fire_time_ms) for run in runs)
    states = Counter(run.state for run in runs)
    state_of = {run.id: run.state for run in runs}
    changed = sum(state_of.get(run_id, "succeeded") != "succeeded" for run_id in samples.accepted)
    expected = jobs.count * (end - begin)
    return {
        "misfire": jobs.misfire,
        "overlap": jobs.overlap,
        "fires expected": expected,
        "missing": expected - len(listed),
        "doubled": listed.total() - len(listed),
        **{f"runs {state}": count for state, count in sorted(states.items())},
        "accepted but not succeeded": changed,
    }
