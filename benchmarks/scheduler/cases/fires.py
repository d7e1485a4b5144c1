"""Sustained fires of one-second jobs, and how late they are."""

from collections.abc import AsyncIterator, Mapping

from benchmarks.figures import Figure
from benchmarks.scheduler.daemons import Overwhelmed
from benchmarks.scheduler.measure import percentile
from benchmarks.scheduler.rounds import Round, hold_rate
from benchmarks.scheduler.stage import Options, figure, stage
from benchmarks.scheduler.yardsticks.floor import DESCRIPTION, fires_a_second


async def fires(options: Options, database: str) -> AsyncIterator[Figure]:
    """The highest of the rates that is kept up with; each adds jobs to those of the one before."""
    async with stage(database) as on:
        reached, made, told = 0, 0, dict[str, object]()
        for rate in sorted(options.rates):
            try:
                came = await hold_rate(on, rate, made, options)
            except Overwhelmed as reason:
                told[f"at {rate}/s"] = str(reason)
                break
            made = rate
            told |= came.settings()
            if not came.window.is_kept_up_with:
                break
            reached = rate
        await on.admin.stop()
        floor = fires_a_second(on.database, on.directory, reached or min(options.rates))
        settings = {"seconds": options.seconds, **told, "floor": DESCRIPTION}
        yield figure(f"fires {database}", reached, "fires/s", settings, floor)


async def lateness(options: Options, database: str) -> AsyncIterator[Figure]:
    """From due time to the start of the handler; the plain names are those of the higher rate."""
    for rate in options.late_rates:
        async with stage(database) as on:
            came = await hold_rate(on, rate, 0, options)
        suffix = "" if rate == max(options.late_rates) else f" at {rate}"
        for percent in (50, 99):
            value = percentile(came.window.late, percent)
            yield figure(f"lateness p{percent}{suffix}", value, "ms", _settings(came, database))


def _settings(came: Round, database: str) -> Mapping[str, object]:
    return {"database": database, "fires/s": came.rate, **came.settings()}
