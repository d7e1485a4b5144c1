"""Runs that somebody asks for: from just before the call to the start of the handler, and how many calls a second."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from benchmarks.figures import Figure
from benchmarks.scheduler.api import Jobs, at_once, manual
from benchmarks.scheduler.measure import percentile
from benchmarks.scheduler.stage import Options, Stage, figure, stage
from benchmarks.servers import Skipped

_JOB = "bench-runs-000000000"
_WARM_UP = 20  # calls that do not count
_IN_FLIGHT = 32
_PATIENCE = 10.0
_RATE_SHARE = 3  # so many calls for the rate, for each that is timed


async def trigger_latency(options: Options) -> AsyncIterator[Figure]:
    """Over gRPC and REST, on an admin that has nothing else to do."""
    async with stage() as on:
        await on.api.create(Jobs(1, manual))
        expected = 0
        for edge, call in (("grpc", on.api.trigger_grpc), ("rest", on.api.trigger_rest)):
            taken = await _one_at_a_time(on, call, options.calls)
            for percent in (50, 99):
                settings = {"calls": options.calls, "in flight": 1}
                yield figure(f"trigger latency {edge} p{percent}", percentile(taken, percent), "ms", settings)
            calls = options.calls * _RATE_SHARE
            seconds = await at_once(_IN_FLIGHT, call, [_JOB] * calls)
            settings = {"calls": calls, "in flight": _IN_FLIGHT}
            yield figure(f"trigger calls {edge}", calls / seconds, "calls/s", settings)
            expected += _WARM_UP + options.calls + calls
            came = await on.executor.accepted(expected, _PATIENCE)
            if came["arrived"] != expected:
                raise Skipped(f"of {expected} triggered runs {came['arrived']:.0f} arrived")


async def _one_at_a_time(on: Stage, call: Callable[[str], Awaitable[None]], calls: int) -> Sequence[float]:
    """The milliseconds of each, rising; the next is called when the one before has arrived."""
    before = round((await on.executor.count())["arrived"])
    called = []
    for number in range(before, before + _WARM_UP + calls):
        called.append(1_000 * time.time())
        await call(_JOB)
        counts = await on.executor.arrived(number + 1, _PATIENCE)
        if counts["arrived"] != number + 1:
            raise Skipped(f"of {number + 1} triggered runs {counts['arrived']:.0f} arrived")
    arrivals = (await on.executor.samples()).arrivals[before:]
    taken = [arrival.at - call_at for arrival, call_at in zip(arrivals, called, strict=True)]
    return sorted(taken[_WARM_UP:])
