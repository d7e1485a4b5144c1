"""Rates that are kept by waiting: of what is published to a topic, and of what a group reads."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from broker.delivery.rates import Bucket

LONGEST_SLEEP_SECONDS = 1.0  # then the rate is looked at again: somebody may have altered it


class Paces:
    """Belongs to one event loop. A rate is in messages a second; 0 and None are no limit, and cost nothing."""

    def __init__(self) -> None:
        self._buckets: dict[Hashable, Bucket] = {}
        self._turns = WeakValueDictionary[Hashable, asyncio.Lock]()  # each as long as somebody is in it or waits

    def seconds_left(self, who: Hashable, rate: float | None) -> float:
        """How long until it may go on; 0: now."""
        return self._bucket(who, rate).seconds_left(_now()) if rate else 0.0

    def take(self, who: Hashable, rate: float | None, count: int) -> None:
        """So many messages went; what is too much the next ones wait for."""
        if rate:
            self._buckets[who] = self._bucket(who, rate).take(count, _now())

    @asynccontextmanager
    async def turn(self, who: Hashable) -> AsyncIterator[None]:
        """Inside nobody else waits for the same rate: who came first goes first."""
        async with self._turns.setdefault(who, asyncio.Lock()):
            yield

    def forget(self, who: Hashable) -> None:
        """It is gone."""
        self._buckets.pop(who, None)

    def _bucket(self, who: Hashable, rate: float) -> Bucket:
        now = _now()
        known = self._buckets.get(who)
        if known is None:
            return Bucket.full(rate, now)
        return known if known.rate == rate else known.at_rate(rate, now)


def _now() -> float:
    return asyncio.get_running_loop().time()
