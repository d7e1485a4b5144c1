"""What a user writes handlers with: `app = Executor("group")` and its decorators."""

import inspect
from collections.abc import Callable
from typing import Literal, TypeVar, overload

from broker.model import Mode
from executor.errors import BadHandler
from executor.registry import Function, Listener, Registry, describe, takes_one
from executor.running.context import AsyncContext, Context

F = TypeVar("F", bound=Function)


class Executor:
    """An executor group's handlers and listeners; run by `shardcast executor MODULE:APP`."""

    def __init__(self, group: str) -> None:
        if not group:
            raise ValueError("an executor needs the name of its group")
        self.group = group
        self.registry = Registry()

    @overload
    def job(self, name: F) -> F: ...

    @overload
    def job(self, name: str | None = None) -> Callable[[F], F]: ...

    def job(self, name: F | str | None = None) -> F | Callable[[F], F]:
        """Offers a function, plain or async, as a handler; with or without parentheses. The function stays as it is.

        It may take a `context` and one more parameter, which gets the run's parameters as the type of its annotation.
        The handler's name is that of module and function unless given. Raises BadHandler or HandlerExists.
        """
        if callable(name):
            return self.job()(name)

        def offer(function: F) -> F:
            called = name or f"{function.__module__}.{function.__qualname__}"
            self.registry.add(describe(called, function, (Context, AsyncContext)))
            return function

        return offer

    def consumer(
        self,
        *topics: str,
        group: str,
        mode: Literal["lease", "offset"] = "lease",
        slots: int = 8,
        max_messages: int = 100,
    ) -> Callable[[F], F]:
        """Calls a function, plain or async, with the messages of the topics, as a member of the group.

        A function whose parameter is annotated with `Message` gets one at a time, any other a list of at most
        `max_messages`; up to `slots` calls run side by side. Returning is success. An exception or `Retry(after=...)`
        brings the message again after the group's backoff, up to its attempts, then it goes to the group's dead
        letters; `Fail(reason)` sends it there at once, `Skip()` is success. A list that fails is tried again in halves
        until it is clear which message it is.

        By lease each message is settled for itself, and one that fails holds up nobody but, if it is `ordered`, those
        with its key. By offset a queue is read strictly in order: a message that fails holds up its queue until it
        succeeds or is given up. Raises BadHandler.
        """
        if not topics:
            raise BadHandler(name=group, reason="a consumer needs at least one topic")
        if mode not in set(Mode):
            raise BadHandler(name=group, reason=f"mode is lease or offset, not {mode!r}")
        if slots < 1 or max_messages < 1:
            raise BadHandler(name=group, reason="slots and max_messages are at least 1")

        def offer(function: F) -> F:
            is_async, is_single = inspect.iscoroutinefunction(function), takes_one(group, function)
            self.registry.listeners.append(
                Listener(topics, group, function, is_async, is_single, Mode(mode), slots, max_messages)
            )
            return function

        return offer
