"""What attempts are given in tests: a time, and a producer in memory."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime

from executor.model import AttemptKey
from executor.testing import MemoryProducer

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def opening(producer: MemoryProducer) -> Callable[[AttemptKey], AbstractAsyncContextManager[MemoryProducer]]:
    @asynccontextmanager
    async def open_producer(key: AttemptKey) -> AsyncIterator[MemoryProducer]:
        yield producer

    return open_producer
