"""One run of the chosen cases, one after the other, each on daemons of its own."""

import argparse
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial

import uvloop

from benchmarks.figures import Figure
from benchmarks.scheduler.cases.books import history_bytes, registered
from benchmarks.scheduler.cases.crowds import burst, hung_executor
from benchmarks.scheduler.cases.fires import fires, lateness
from benchmarks.scheduler.cases.restart import restart
from benchmarks.scheduler.cases.triggers import trigger_latency
from benchmarks.scheduler.stage import Options, say
from benchmarks.scheduler.yardsticks import xxl_job
from benchmarks.servers import Skipped

Case = Callable[[Options], AsyncIterator[Figure]]

CASES: Mapping[str, Case] = {
    "fires sqlite": partial(fires, database="sqlite"),
    "fires postgresql": partial(fires, database="postgresql"),
    "lateness": partial(lateness, database="sqlite"),
    "trigger latency": trigger_latency,
    "burst": burst,
    "hung executor": hung_executor,
    "restart": restart,
    "history bytes sqlite": partial(history_bytes, database="sqlite"),
    "history bytes postgresql": partial(history_bytes, database="postgresql"),
    "registered": registered,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    usual = Options()
    parser.add_argument("--case", action="append", choices=CASES, help="one of them; may be given again; default: all")
    parser.add_argument("--rates", type=int, nargs="+", default=usual.rates, help="fires per second that are tried")
    parser.add_argument("--late-rates", type=int, nargs="+", default=usual.late_rates, help="of the case lateness")
    parser.add_argument("--seconds", type=int, default=usual.seconds, help="that are measured")
    parser.add_argument("--warm-up", type=int, default=usual.warm_up, help="seconds before those")
    parser.add_argument("--drain", type=int, default=usual.drain, help="seconds for what is late behind those, at most")
    parser.add_argument("--burst", type=int, default=usual.burst, help="jobs due at once")
    parser.add_argument("--calls", type=int, default=usual.calls, help="of triggers, one at a time")
    parser.add_argument("--history", type=int, default=usual.history, help="finished runs whose bytes are counted")
    parser.add_argument("--registered", type=int, default=usual.registered, help="jobs that hardly ever run")
    xxl_job.add_options(parser)


def run(options: argparse.Namespace) -> Iterator[Figure]:
    """The figures of one run."""
    yield from uvloop.run(_figures(options))


async def _figures(given: argparse.Namespace) -> Sequence[Figure]:
    options = Options(**{field.name: getattr(given, field.name) for field in fields(Options)})
    peers = await xxl_job.measured(given)
    figures: list[Figure] = []
    for name in given.case or CASES:
        try:
            figures += [figure async for figure in CASES[name](options)]
        except Skipped as reason:
            say(f"{name}: skipped: {reason}")
    return [_beside(figure, peers) for figure in figures]


def _beside(figure: Figure, peers: Mapping[str, Mapping[str, float]]) -> Figure:
    found = peers.get(figure.case)
    if not found:
        return figure
    settings = {**figure.settings, "peer's lateness": xxl_job.LATENESS}
    return replace(figure, peers=found, settings=settings)
