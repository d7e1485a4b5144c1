"""The scheduler: how many fires it keeps up with, how late they are, and what it needs, on real daemons."""

from benchmarks.scheduler.run import add_options, run
from benchmarks.scheduler.stage import NAME

__all__ = ["NAME", "add_options", "run"]
