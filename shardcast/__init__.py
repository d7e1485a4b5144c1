"""The front door: SDK, command line, all daemons on one machine, and the demo.

A name is imported when it is first used: the daemons and the command line live in this package too, and shall not carry
what only handlers need.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from admin.domain.errors import InvalidTrigger
    from admin.domain.trigger import fire_times
    from broker.client import STORED_BEFORE, Batch, Message, Receipt, Receipts, ReceivedMessage
    from executor.app import Executor
    from executor.depends import Depends
    from executor.errors import Cancelled, CheckpointOrder, ClaimHeld, Fail, Retry, RowFailed, Skip
    from executor.limits.current import current_limits, once, once_all
    from executor.limits.limits import Limits
    from executor.model import Handled
    from executor.running.context import Context, current_context
    from executor.sharding.hash import shard_of, stable_hash
    from executor.sharding.plan import Bucket
    from protos.errors import ShardcastError
    from shardcast.blocking import Consumer, Producer, Transaction

__all__ = [
    "STORED_BEFORE",
    "Batch",
    "Bucket",
    "Cancelled",
    "CheckpointOrder",
    "ClaimHeld",
    "Consumer",
    "Context",
    "Depends",
    "Executor",
    "Fail",
    "Handled",
    "InvalidTrigger",
    "Limits",
    "Message",
    "Producer",
    "Receipt",
    "Receipts",
    "ReceivedMessage",
    "Retry",
    "RowFailed",
    "ShardcastError",
    "Skip",
    "Transaction",
    "current_context",
    "current_limits",
    "fire_times",
    "once",
    "once_all",
    "shard_of",
    "stable_hash",
]

_HOMES = {
    "admin.domain.errors": ("InvalidTrigger",),
    "admin.domain.trigger": ("fire_times",),
    "broker.client": ("STORED_BEFORE", "Batch", "Message", "Receipt", "Receipts", "ReceivedMessage"),
    "executor.app": ("Executor",),
    "executor.depends": ("Depends",),
    "executor.errors": ("Cancelled", "CheckpointOrder", "ClaimHeld", "Fail", "Retry", "RowFailed", "Skip"),
    "executor.limits.current": ("current_limits", "once", "once_all"),
    "executor.limits.limits": ("Limits",),
    "executor.model": ("Handled",),
    "executor.running.context": ("Context", "current_context"),
    "executor.sharding.hash": ("shard_of", "stable_hash"),
    "executor.sharding.plan": ("Bucket",),
    "protos.errors": ("ShardcastError",),
    "shardcast.blocking": ("Consumer", "Producer", "Transaction"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
