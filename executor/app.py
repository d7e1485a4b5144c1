"""What a user writes handlers with: `app = Executor("group")` and its decorators."""

import inspect
from collections.abc import Callable
from typing import TypeVar, overload

from executor.errors import BadHandler
from executor.registry import Function, Listener, Registry, describe
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

    def consumer(self, *topics: str, group: str) -> Callable[[F], F]:
        """Calls a function, plain or async, with each batch of messages of the topics, as a member of the group.

        The batch is committed when the function returns; when it raises, it gets the same batch again after a while.
        """
        if not topics:
            raise BadHandler(name=group, reason="a consumer needs at least one topic")

        def offer(function: F) -> F:
            listener = Listener(topics, group, function, inspect.iscoroutinefunction(function))
            self.registry.listeners.append(listener)
            return function

        return offer
