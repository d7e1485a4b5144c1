"""What the books weigh: bytes per finished run, and what many registered jobs cost those that run."""

from collections.abc import AsyncIterator

from benchmarks.figures import Figure
from benchmarks.processes import memory_mb
from benchmarks.scheduler.api import IN_FLIGHT, Jobs, one_second_jobs
from benchmarks.scheduler.rounds import hold_rate
from benchmarks.scheduler.stage import Options, figure, stage
from protos.admin.v1.job_pb2 import Trigger

_HISTORY_JOBS = 500
_ACTIVE = 100
_PATIENCE = 120.0
_ONCE_A_YEAR = "0 0 0 1 1 ?"


async def history_bytes(options: Options, database: str) -> AsyncIterator[Figure]:
    """Both sizes are taken while no admin runs, of a compacted database."""
    async with stage(database) as on:
        count = min(_HISTORY_JOBS, options.history)
        await on.api.create(one_second_jobs(count))
        await on.executor.accepted(count, _PATIENCE)
        await on.admin.stop()
        runs, (data, index) = (await on.executor.count())["accepted"], on.database.sizes(on.admin.data)
        await on.admin.start()
        await on.executor.accepted(round(runs) + options.history, _PATIENCE)
        await on.admin.stop()
        more = (await on.executor.count())["accepted"] - runs
        data_after, index_after = on.database.sizes(on.admin.data)
    data_each, index_each = (data_after - data) / more, (index_after - index) / more
    settings = {"finished runs": round(more), "data": round(data_each), "index": round(index_each), "name": "20 bytes"}
    yield figure(f"history bytes {database}", data_each + index_each, "bytes", settings)


async def registered(options: Options) -> AsyncIterator[Figure]:
    """The admin's CPU and memory under 100 one-second jobs, alone and beside many that are due once a year."""
    async with stage() as on:
        few = await hold_rate(on, _ACTIVE, 0, options)
        few_rss, _ = memory_mb(on.admin.pid)
        idle = Jobs(options.registered, lambda _: Trigger(cron=_ONCE_A_YEAR), first=_ACTIVE)
        seconds = await on.api.create(idle)
        many = await hold_rate(on, _ACTIVE, _ACTIVE, options)
        rss, pss = memory_mb(on.admin.pid)
    used, used_alone = (1_000 * came.cpu["admin"] / options.seconds for came in (many, few))
    settings = {
        "one-second jobs": _ACTIVE,
        **many.settings(),
        "alone": f"{used_alone:.0f} ms/s, {few_rss:.0f} MiB",
        "PSS": f"{pss:.0f} MiB",
        "idle jobs made": f"{options.registered / seconds:,.0f}/s, {IN_FLIGHT} in flight",
    }
    yield figure(f"registered {options.registered}", used, "CPU ms/s", settings)
    yield figure(f"registered {options.registered} memory", rss, "MiB", settings)
