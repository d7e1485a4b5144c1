"""For tests of what users write: one handler as a plain function, or a whole server in the test's process.

As in `shardcast`, a name is imported when it is first used, so that the pytest plugin weighs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executor.testing import LocalRun, run_local
    from shardcast.testing.executors import ChildExecutor, ExecutorRefused, LocalExecutor
    from shardcast.testing.proxy import Direction, Proxy
    from shardcast.testing.runs import Run, Shard, UnexpectedEnd
    from shardcast.testing.server import TestServer

__all__ = [
    "ChildExecutor",
    "Direction",
    "ExecutorRefused",
    "LocalExecutor",
    "LocalRun",
    "Proxy",
    "Run",
    "Shard",
    "TestServer",
    "UnexpectedEnd",
    "run_local",
]

_HOMES = {
    "executor.testing": ("LocalRun", "run_local"),
    "shardcast.testing.executors": ("ChildExecutor", "ExecutorRefused", "LocalExecutor"),
    "shardcast.testing.proxy": ("Direction", "Proxy"),
    "shardcast.testing.runs": ("Run", "Shard", "UnexpectedEnd"),
    "shardcast.testing.server": ("TestServer",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
