"""The limits of the app that runs, for what its handlers and listeners call."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

from executor.errors import NoLimits
from executor.limits.claims import Once, OnceAll, Unknown
from executor.limits.limits import AsyncLimits, Limits

_current: ContextVar[Limits | None] = ContextVar("limits", default=None)


@contextmanager
def using(limits: Limits | None) -> Iterator[None]:
    """These are the current ones for what runs inside, and for the tasks that are begun there."""
    token = _current.set(limits)
    try:
        yield
    finally:
        _current.reset(token)


def current_limits() -> Limits:
    """The limits that the running app was given: `Executor(group, limits=...)`. Raises NoLimits."""
    limits = _current.get()
    if limits is None:
        raise NoLimits
    return limits


def current_url() -> str | None:
    """By which another process of the app asks the same limits; None where there are none to be shared."""
    limits = _current.get()
    return None if limits is None else limits.url


def current_async_limits() -> AsyncLimits:
    """As `current_limits`, with `await`. Raises NoLimits."""
    return AsyncLimits(current_limits())


def once(key: str, *, window: timedelta, claim: timedelta | None = None, unknown: Unknown = "repeat") -> Once:
    """`Limits.once` of the app that runs, for `with` and `async with`. Raises NoLimits and InvalidArgument."""
    return current_limits().once(key, window=window, claim=claim, unknown=unknown)


def once_all(
    keys: Sequence[str], *, window: timedelta, claim: timedelta | None = None, unknown: Unknown = "repeat"
) -> OnceAll:
    """`Limits.once_all` of the app that runs, for `with` and `async with`. Raises NoLimits and InvalidArgument."""
    return current_limits().once_all(keys, window=window, claim=claim, unknown=unknown)
