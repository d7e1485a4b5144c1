"""The SDK with `await`: the same names as in `shardcast`."""

from broker.client import (
    STORED_BEFORE,
    Batch,
    Consumer,
    Message,
    Producer,
    Receipt,
    Receipts,
    ReceivedMessage,
    Transaction,
)
from executor.limits.current import current_async_limits as current_limits
from executor.limits.current import once, once_all
from executor.limits.limits import AsyncLimits as Limits
from executor.running.context import AsyncContext as Context
from executor.running.context import current_async_context as current_context
from shardcast.embedded import running

__all__ = [
    "STORED_BEFORE",
    "Batch",
    "Consumer",
    "Context",
    "Limits",
    "Message",
    "Producer",
    "Receipt",
    "Receipts",
    "ReceivedMessage",
    "Transaction",
    "current_context",
    "current_limits",
    "once",
    "once_all",
    "running",
]
