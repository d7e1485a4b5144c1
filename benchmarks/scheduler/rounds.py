"""One rate of fires: jobs are made, a window of whole seconds is measured, what is late gets time to arrive."""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.scheduler.api import one_second_jobs
from benchmarks.scheduler.measure import Window, percentile, window
from benchmarks.scheduler.stage import Options, Stage, say

_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Round:
    """What came of a rate, and in its window the CPU seconds of each kind of process and the outcomes accepted."""

    rate: int
    window: Window
    cpu: Mapping[str, float]
    accepted: float

    def settings(self) -> Mapping[str, object]:
        """As a line for each rate."""
        found = self.window
        costs = ", ".join(f"{name} {1_000 * used / (self.accepted or 1):.2f}" for name, used in self.cpu.items())
        seconds = (found.end - found.begin) / 1_000
        cores = ", ".join(f"{name} {used / seconds:.2f}" for name, used in self.cpu.items())
        text = (
            f"fires expected {found.expected:,}, arrived {found.arrived:,}, finished {found.finished:,}, "
            f"lost {found.lost:,}, doubled {found.doubled:,}; late p50 {percentile(found.late, 50):.1f}, "
            f"p99 {percentile(found.late, 99):.1f}, max {percentile(found.late, 100):.1f} ms; "
            f"CPU ms a fire: {costs}; cores: {cores}"
        )
        return {f"at {self.rate}/s": text}


async def hold_rate(on: Stage, rate: int, made: int, options: Options) -> Round:
    """Makes jobs until there are `rate` of them, then measures."""
    jobs = one_second_jobs(rate - made, first=made)
    if jobs.count:
        seconds = await on.api.create(jobs)
        say(f"{on.database.name}: {jobs.count:,} jobs made in {seconds:.1f} s, {jobs.count / seconds:,.0f}/s")
    await _settled(on, rate, options)
    begin = math.ceil(max(jobs.begin_ms / 1_000, time.time())) + options.warm_up
    await _until(begin)
    before, accepted = on.cpu(), (await on.executor.count())["accepted"]
    await _until(begin + options.seconds)
    after, accepted = on.cpu(), (await on.executor.count())["accepted"] - accepted
    cpu = {name: after[name] - before[name] for name in after}
    found = await _drained(on, rate, begin, options)
    came = Round(rate, found, cpu, accepted)
    for at, told in came.settings().items():
        say(f"{on.database.name} {at}: {told}")
    return came


async def _settled(on: Stage, rate: int, options: Options) -> None:
    """What the making of jobs has held up is answered: fewer outcomes wait than a second brings."""
    deadline = time.monotonic() + options.drain
    while (await on.executor.count())["waiting"] > rate and time.monotonic() < deadline:  # noqa: ASYNC110  # it is asked
        await asyncio.sleep(_LOOK_SECONDS)


async def _drained(on: Stage, rate: int, begin: int, options: Options) -> Window:
    """The window once all of it is finished, or the patience is over."""
    deadline = time.monotonic() + options.drain
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        samples = await on.executor.samples()
        found = window(samples.arrivals, rate, 1_000 * begin, 1_000 * (begin + options.seconds), 1_000 * time.time())
        if found.finished == found.expected or time.monotonic() > deadline:
            return found


async def _until(second: int) -> None:
    await asyncio.sleep(max(0.0, second - time.time()))
