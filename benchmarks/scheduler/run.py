"""One run of the chosen cases, one after the other, each on daemons of its own."""

import argparse
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial

import uvloop

from benchmarks.figures import Figure
from benchmarks.scheduler.cases.fires import fires, lateness
from benchmarks.scheduler.daemons import Skipped
from benchmarks.scheduler.stage import Options, say

Case = Callable[[Options], AsyncIterator[Figure]]

CASES: Mapping[str, Case] = {
    "fires sqlite": partial(fires, database="sqlite"),
    "fires postgresql": partial(fires, database="postgresql"),
    "lateness": partial(lateness, database="sqlite"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    usual = Options()
    parser.add_argument("--case", action="append", choices=CASES, help="one of them; may be given again; default: all")
    parser.add_argument("--rates", type=int, nargs="+", default=usual.rates, help="fires per second that are tried")
    parser.add_argument("--seconds", type=int, default=usual.seconds, help="that are measured")
    parser.add_argument("--warm-up", type=int, default=usual.warm_up, help="seconds before those")


def run(options: argparse.Namespace) -> Iterator[Figure]:
    """The figures of one run."""
    yield from uvloop.run(_figures(options))


async def _figures(given: argparse.Namespace) -> Sequence[Figure]:
    options = Options(rates=tuple(given.rates), seconds=given.seconds, warm_up=given.warm_up)
    figures: list[Figure] = []
    for name in given.case or CASES:
        try:
            figures += [figure async for figure in CASES[name](options)]
        except Skipped as reason:
            say(f"{name}: skipped: {reason}")
    return figures
