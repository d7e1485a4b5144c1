"""What a user writes handlers with: `app = Executor("group")` and its decorators."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Literal, TypeVar, overload

from broker.model import LONGEST_LEASE_MS, Mode
from executor.errors import BadHandler
from executor.limits.limits import Limits
from executor.limits.sql.engines import Engine
from executor.registry import (
    Errors,
    Function,
    Isolation,
    Listener,
    Manner,
    Registry,
    describe,
    read_listener,
    read_middleware,
)
from executor.running.context import AsyncContext, Context

F = TypeVar("F", bound=Function)

Lifespan = Callable[[], AbstractAsyncContextManager[object]]

SHORTEST_LEASE, LONGEST_LEASE = timedelta(seconds=1), timedelta(milliseconds=LONGEST_LEASE_MS)
LONGEST_RELAY_NAMES = 236  # of the 255 bytes of the producer's id


class Executor:
    """An executor group's handlers and listeners; run by `shardcast executor MODULE:APP`.

    `lifespan` is a function that gives an async context manager (e.g. one decorated with asynccontextmanager). It is
    entered before the executor takes anything, and left when all that ran has ended; what it yields is the `state` of
    contexts and providers. `limits` are those that `once` and `current_limits` ask within handlers and listeners: a URL
    or a SQLAlchemy engine as Limits takes it, or Limits.
    """

    def __init__(
        self, group: str, *, lifespan: Lifespan | None = None, limits: Limits | Engine | str | None = None
    ) -> None:
        """Raises BadLimits."""
        if not group:
            raise ValueError("an executor needs the name of its group")
        self.group = group
        self.lifespan = lifespan
        self.limits = Limits(limits) if isinstance(limits, Engine | str) else limits
        self.registry = Registry()

    @overload
    def job(self, name: F) -> F: ...

    @overload
    def job(
        self,
        name: str | None = None,
        *,
        isolation: Literal["async", "thread", "process"] | None = None,
        slots: int | None = None,
        retry_on: Errors = (),
        give_up_on: Errors = (),
    ) -> Callable[[F], F]: ...

    def job(
        self,
        name: F | str | None = None,
        *,
        isolation: Literal["async", "thread", "process"] | None = None,
        slots: int | None = None,
        retry_on: Errors = (),
        give_up_on: Errors = (),
    ) -> F | Callable[[F], F]:
        """Offers a function, plain or async, as a handler; with or without parentheses. The function stays as it is.

        It may take a `context` and one more parameter, which gets the run's parameters as the type of its annotation.
        The handler's name is that of module and function unless given.

        Async functions run in the executor's loop and plain ones in a thread; `isolation="process"` gives a plain one a
        process of its own, which is killed where the attempt is to stop. At most `slots` attempts of the handler run
        side by side in one executor. An error of the types `give_up_on` is final; where `retry_on` names types, so is
        every other one. Raises BadHandler or HandlerExists.
        """
        if callable(name):
            return self.job()(name)

        def offer(function: F) -> F:
            called = name or f"{function.__module__}.{function.__qualname__}"
            manner = _manner(called, isolation, slots, retry_on, give_up_on)
            self.registry.add(describe(called, function, (Context, AsyncContext), manner))
            return function

        return offer

    def middleware(self, function: F) -> F:
        """Calls `function(context, call_next)`, plain or async, around each attempt of the app's handlers.

        It returns what `call_next()` returned (awaited in an async one), or what else is to be the result; it may raise
        or return Retry, Fail and Skip. What was added first is outermost. A plain one has a thread of its own. Another
        error of its own fails the attempt with MiddlewareFailed. Raises BadHandler.
        """
        self.registry.middleware.append(read_middleware(function))
        return function

    def consumer(
        self,
        *topics: str,
        group: str,
        mode: Literal["lease", "offset"] = "lease",
        slots: int = 8,
        max_messages: int = 100,
        tags: Sequence[str] = (),
        start: Literal["earliest", "latest"] | datetime = "earliest",
        lease: timedelta = timedelta(seconds=30),
        to: str | None = None,
    ) -> Callable[[F], F]:
        """Calls a function, plain or async, with the messages of the topics, as a member of the group.

        A function whose parameter is annotated with `Message` gets one at a time, any other a list of at most
        `max_messages`; up to `slots` calls run side by side. Returning is success. An exception or `Retry(after=...)`
        brings the message again after the group's backoff, up to its attempts, then it goes to the group's dead
        letters; `Fail(reason)` sends it there at once, `Skip()` is success. A list that fails is tried again in halves
        until it is clear which message it is.

        By lease each message is settled for itself, and one that fails holds up nobody but, if it is `ordered`, those
        with its key. By offset a queue is read strictly in order: a message that fails holds up its queue until it
        succeeds or is given up.
        With `tags` only messages that have one of them come, the others count as done. `start` is where a queue begins
        that the group never read. `lease`, of 1 s to 12 h, is how long others wait for the messages of a process that
        died. With `to`, a topic, and mode="offset" the Messages that are returned are published in one step with how
        far the queue is read: exactly once, whatever dies; a message's own topic wins. `Handled(count, after=...)`
        says that a part of a list is done, and is no attempt. Raises BadHandler.
        """
        reason = _unfit(topics, mode, tags, start, lease) or _unfit_relay(topics, group, mode, to)
        if reason is not None or slots < 1 or max_messages < 1:
            raise BadHandler(name=group, reason=reason or "slots and max_messages are at least 1")

        def offer(function: F) -> F:
            is_async, (is_single, providers) = inspect.iscoroutinefunction(function), read_listener(group, function)
            how = (is_async, is_single, Mode(mode), slots, max_messages, tuple(tags), start, lease, providers, to)
            self.registry.listeners.append(Listener(topics, group, function, *how))
            return function

        return offer


def _manner(name: str, isolation: str | None, slots: object, retry_on: Errors, give_up_on: Errors) -> Manner:
    """Raises BadHandler."""
    if isolation is not None and isolation not in set(Isolation):
        raise BadHandler(name=name, reason=f"isolation is async, thread or process, not {isolation!r}")
    if slots is not None and (not isinstance(slots, int) or slots < 1):
        raise BadHandler(name=name, reason=f"slots are a whole number from 1, not {slots!r}")
    again, final = _types(name, retry_on), _types(name, give_up_on)
    if both := set(again) & set(final):
        told = ", ".join(sorted(each.__name__ for each in both))
        raise BadHandler(name=name, reason=f"{told} cannot be both in retry_on and in give_up_on")
    return Manner(Isolation(isolation) if isolation else None, slots, again, final)


def _types(name: str, errors: Errors) -> tuple[type[Exception], ...]:
    given: Sequence[object] = (errors,) if isinstance(errors, type) else tuple(errors)
    types = tuple(each for each in given if isinstance(each, type) and issubclass(each, Exception))
    if unfit := [each for each in given if each not in types]:
        raise BadHandler(name=name, reason=f"retry_on and give_up_on take types of exceptions, not {unfit[0]!r}")
    return types


def _unfit(
    topics: Sequence[str], mode: str, tags: Sequence[str], start: str | datetime, lease: timedelta
) -> str | None:
    """Why a consumer cannot be run so; None: it can."""
    if not topics:
        return "a consumer needs at least one topic"
    if mode not in set(Mode):
        return f"mode is lease or offset, not {mode!r}"
    if isinstance(tags, str):
        return f"tags are a list of texts, not {tags!r}"
    if start not in ("earliest", "latest") and (not isinstance(start, datetime) or start.tzinfo is None):
        return f"start is earliest, latest or an aware datetime, not {start!r}"
    if not SHORTEST_LEASE <= lease <= LONGEST_LEASE:
        return f"a lease is {SHORTEST_LEASE} to {LONGEST_LEASE} long, not {lease}"
    return None


def _unfit_relay(topics: Sequence[str], group: str, mode: str, to: object) -> str | None:
    """Why a consumer cannot publish so; None: it can, or does not want to."""
    if to is None:
        return None
    if not isinstance(to, str) or not to:
        return f"to is the name of a topic, not {to!r}"
    if mode != Mode.OFFSET:
        return 'to= needs mode="offset": only how far a queue is read can be stored with what it leads to'
    if len(group) + max(map(len, topics)) > LONGEST_RELAY_NAMES:
        return f"with to= the names of the group and of a topic have {LONGEST_RELAY_NAMES} characters at most together"
    return None
