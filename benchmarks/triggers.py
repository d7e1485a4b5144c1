"""What the next fire of a cron expression costs, beside APScheduler's own evaluator where it knows the expression."""

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from admin.domain.trigger import Cron, Trigger, next_fire
from admin.domain.trigger.clock import offset_around
from benchmarks.figures import Figure

NAME = "triggers"
ZONES = ("UTC", "Asia/Shanghai", "America/New_York")
START = datetime(2026, 1, 1, tzinfo=UTC)
PASSES = 9
LAST_YEAR = 2120

# Quartz's expression, and the fields that APScheduler takes for it.
CASES: dict[str, tuple[str, dict[str, str] | None]] = {
    "every 5 min": ("0 0/5 * * * ?", {"minute": "*/5", "second": "0"}),
    "every 10 s": ("0/10 * * * * ?", {"second": "*/10"}),
    "daily 09:00": ("0 0 9 * * ?", {"hour": "9"}),
    "MON-FRI 09:30": ("0 30 9 ? * MON-FRI", {"day_of_week": "mon-fri", "hour": "9", "minute": "30"}),
    "1st of month": ("0 0 0 1 * ?", {"day": "1"}),
    "last day (L)": ("0 0 0 L * ?", {"day": "last"}),
    "FRI#3": ("0 0 0 ? * FRI#3", {"day": "3rd fri"}),
    "15W": ("0 0 0 15W * ?", None),
    "29 Feb": ("0 0 0 29 2 ?", {"month": "2", "day": "29"}),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fires", type=int, default=1_000, help="in a row, of each expression")


def run(options: argparse.Namespace) -> Iterator[Figure]:
    """Microseconds of processor time; the best of some passes, each without what the one before knew of the zone."""
    settings = {"fires": options.fires, "passes": PASSES, "machine": platform.machine(), "cpus": os.cpu_count()}
    for case, (expression, fields) in CASES.items():
        for zone in ZONES:
            ours = _microseconds(_ours(expression, zone), options.fires)
            peers = {} if fields is None else {"APScheduler": _microseconds(_apscheduler(fields, zone), options.fires)}
            yield Figure(NAME, f"{case}, {zone}", ours, "us", peers=peers, settings=settings)


Next = Callable[[datetime], datetime | None]


def _ours(expression: str, zone: str) -> Next:
    trigger = Trigger(Cron(expression, zone))
    return lambda after: next_fire(trigger, after)


def _apscheduler(fields: dict[str, str], zone: str) -> Next:
    trigger = CronTrigger(timezone=ZoneInfo(zone), **fields)

    def found(after: datetime) -> datetime | None:
        fire: datetime | None = trigger.get_next_fire_time(after, after)
        return fire

    return found


def _microseconds(next_of: Next, fires: int) -> float:
    return min(_one_pass(next_of, fires) for _ in range(PASSES))


def _one_pass(next_of: Next, fires: int) -> float:
    offset_around.cache_clear()
    after, count = START, 0
    started = time.process_time()
    while count < fires and (fire := next_of(after)) is not None and fire.year < LAST_YEAR:
        after, count = fire, count + 1
    return (time.process_time() - started) / max(count, 1) * 1e6
