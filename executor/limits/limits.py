"""The limits as users see them, blocking and with `await`."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from executor.errors import BadLimits
from executor.limits.claims import Once, OnceAll, Unknown
from executor.limits.memory import MemoryStore
from executor.limits.names import cap_of, names_of, rate_of
from executor.limits.port import Store
from executor.limits.sql.engines import Engine
from executor.limits.sql.store import SqlStore

SECOND = timedelta(seconds=1)


class _Limits:
    """What needs no twin: `once` serves `with` and `async with` alike."""

    def __init__(self, store: "str | Engine | _Limits", *, now: Callable[[], datetime] | None = None) -> None:
        """`store` is a URL (`sqlite:///limits.db`, `postgresql+psycopg://...`, `mysql+pymysql://...`, `redis://...`,
        `rediss://...`, `unix://...`, or `memory://` for this process alone) or a SQLAlchemy engine. `now` gives aware
        instants for SQLite and memory; servers have their own clock.

        Raises BadLimits; nothing is connected to before the first call.
        """
        clock = now or partial(datetime.now, UTC)
        self._store: Store = store._store if isinstance(store, _Limits) else _open(store, clock)
        self.url = _url_of(store)
        """By which other processes ask the same store, with its password; None: they cannot."""

    def once(self, key: str, *, window: timedelta, claim: timedelta | None = None, unknown: Unknown = "repeat") -> Once:
        """A context manager that is True where nobody did `key` within `window`, and nobody is at work on it.

        Entering claims the key; leaving without an error marks it done, for `window` from then on; leaving with one
        gives it back. A claim that is neither lapses after `claim` (60 s, or `window` where that is shorter): then it
        is unknown whether its process did it before it died, and the key is free again (`unknown="repeat"`) or counts
        as done (`"skip"`). Entering raises ClaimHeld while another one's claim lasts, InvalidArgument or
        LimitsUnreachable.
        """
        return Once(self._store, key, window, claim, unknown)

    def once_all(
        self,
        keys: Sequence[str],
        *,
        window: timedelta,
        claim: timedelta | None = None,
        unknown: Unknown = "repeat",
    ) -> OnceAll:
        """As `once`, for at most 10,000 keys in one call: a context manager that gives the list of those that are ours,
        in the order given, each once. Keys that others are at work on are in its `held`; where there are some, leaving
        without an error marks ours done and raises ClaimHeld, so that the list comes again. Those of ours that its
        `give_back(*keys)` was told of count as not done, and are free again.
        """
        return OnceAll(self._store, keys, window, claim, unknown)

    def close(self) -> None:
        """Closes the connections; they are made again when they are needed."""
        self._store.close()


class Limits(_Limits):
    """Limits by key that all processes share which use the same store."""

    def take(self, key: str, n: int = 1, *, rate: int, per: timedelta = SECOND, burst: int | None = None) -> timedelta:
        """Takes `n` permits from the key's bucket, which gets `rate` of them each `per` and holds at most `burst`
        (None: `rate`). Zero where they were taken; else nothing was, and they would be there after so long. Raises
        InvalidArgument or LimitsUnreachable.
        """
        return self.take_all([key], n, rate=rate, per=per, burst=burst)[0]

    def take_all(
        self, keys: Sequence[str], n: int = 1, *, rate: int, per: timedelta = SECOND, burst: int | None = None
    ) -> list[timedelta]:
        """As `take`, from each key's own bucket, at most 10,000 in one call; a key that comes twice takes twice."""
        made, names = rate_of(rate, per, burst, n), names_of(keys)
        times = Counter(names)
        taken = self._store.take(times, n, made) if names else {}
        left = Counter({name: each.granted for name, each in taken.items()})
        waits = []
        for name in names:
            waits.append(timedelta(0) if left[name] > 0 else timedelta(microseconds=taken[name].wait_us))
            left[name] -= 1
        return waits

    def cap(self, key: str, *, most: int, window: timedelta) -> bool:
        """Whether the key may be had once more, so that it is at most `most` times (1 to 1,000) in any `window`. Only
        what was allowed counts. The counts of one key in different windows are independent. Raises InvalidArgument or
        LimitsUnreachable.
        """
        return bool(self.cap_all([key], most=most, window=window))

    def cap_all(self, keys: Sequence[str], *, most: int, window: timedelta) -> list[str]:
        """As `cap`: those of at most 10,000 keys that are allowed, in the order given; a key that comes twice counts
        twice.
        """
        made = cap_of(most, window)
        names = names_of(keys, f"{made.window_us // 1000}:")
        left = Counter(self._store.count(Counter(names), made)) if names else Counter()
        allowed = []
        for name, key in zip(names, keys, strict=True):
            if left[name] > 0:
                allowed.append(key)
            left[name] -= 1
        return allowed


class AsyncLimits(_Limits):
    """As Limits, with `await`: each call waits in a thread."""

    async def take(
        self, key: str, n: int = 1, *, rate: int, per: timedelta = SECOND, burst: int | None = None
    ) -> timedelta:
        """As Limits.take."""
        return await asyncio.to_thread(partial(Limits(self).take, key, n, rate=rate, per=per, burst=burst))

    async def take_all(
        self, keys: Sequence[str], n: int = 1, *, rate: int, per: timedelta = SECOND, burst: int | None = None
    ) -> list[timedelta]:
        """As Limits.take_all."""
        return await asyncio.to_thread(partial(Limits(self).take_all, keys, n, rate=rate, per=per, burst=burst))

    async def cap(self, key: str, *, most: int, window: timedelta) -> bool:
        """As Limits.cap."""
        return await asyncio.to_thread(partial(Limits(self).cap, key, most=most, window=window))

    async def cap_all(self, keys: Sequence[str], *, most: int, window: timedelta) -> list[str]:
        """As Limits.cap_all."""
        return await asyncio.to_thread(partial(Limits(self).cap_all, keys, most=most, window=window))


def _url_of(store: str | Engine | _Limits) -> str | None:
    match store:
        case _Limits():
            return store.url
        case str():
            return None if store.startswith("memory:") else store
        case _:
            return store.url.render_as_string(hide_password=False)


def _open(store: object, now: Callable[[], datetime]) -> Store:
    """The one place that knows the stores. Raises BadLimits."""
    if isinstance(store, Engine):
        return SqlStore(store, now, random.random)
    if not isinstance(store, str) or "://" not in store:
        raise BadLimits(store=repr(store), reason="it is neither a URL nor a SQLAlchemy engine")
    scheme = store.partition("://")[0]
    if scheme == "memory":
        return MemoryStore(now)
    if scheme in ("redis", "rediss", "unix"):
        from executor.limits.redis.store import RedisStore  # not loaded where there is none

        return RedisStore(store)
    return SqlStore(store, now, random.random)
