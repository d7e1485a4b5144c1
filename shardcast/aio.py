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
from executor.running.context import AsyncContext as Context
from executor.running.context import current_async_context as current_context
from shardcast.embedded import running

__all__ = [
    "STORED_BEFORE",
    "Batch",
    "Consumer",
    "Context",
    "Message",
    "Producer",
    "Receipt",
    "Receipts",
    "ReceivedMessage",
    "Transaction",
    "current_context",
    "running",
]
