"""Values that a function asks for by `Annotated[T, Depends(provider)]`: made for each call, and closed behind it."""

import enum
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from functools import partial
from typing import Annotated, cast, get_origin

from executor.errors import BadHandler

CONTEXT, STATE = "context", "state"
_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Depends:
    """Stands in `Annotated[T, Depends(provider)]`: the parameter gets what the provider gives.

    A provider is a function or a context manager function (one that yields), plain or, for async handlers, async. It
    may itself take `context`, the attempt, and `state`, what the lifespan yielded.
    """

    provider: Callable[..., object]


class Kind(enum.Enum):
    """How a provider gives its value."""

    VALUE = enum.auto()
    AWAITED = enum.auto()
    MANAGED = enum.auto()
    ASYNC_MANAGED = enum.auto()


@dataclass(frozen=True, slots=True)
class Provider:
    """Gives the value of one parameter."""

    parameter: str
    function: Callable[..., object]
    kind: Kind
    wants: tuple[str, ...]  # of context and state

    def call(self, offers: Mapping[str, Callable[[], object]]) -> object:
        return self.function(**{name: offers[name]() for name in self.wants})


Offers = Mapping[str, Callable[[], object]]
"""What providers may ask for, by name."""


def provider_of(name: str, parameter: inspect.Parameter, *, is_async: bool, offers: Sequence[str]) -> Provider | None:
    """The provider of a parameter of the function `name`; None where it has none. Raises BadHandler."""
    annotation: object = parameter.annotation
    marks = getattr(annotation, "__metadata__", ()) if get_origin(annotation) is Annotated else ()
    depends = next((mark for mark in marks if isinstance(mark, Depends)), None)
    if depends is None:
        return None
    function, kind = _read(depends.provider)
    told = getattr(function, "__qualname__", repr(function))
    if kind in (Kind.AWAITED, Kind.ASYNC_MANAGED) and not is_async:
        raise BadHandler(name=name, reason=f"the provider {told} is async, which is for async functions")
    try:
        taken = inspect.signature(depends.provider).parameters.values()
    except (TypeError, ValueError) as error:
        raise BadHandler(name=name, reason=f"the provider {told} cannot be called: {error}") from error
    wants = tuple(each.name for each in taken if each.name in offers)
    required = (each for each in taken if each.default is each.empty and each.kind not in _OPEN)
    if unknown := [each.name for each in required if each.name not in offers]:
        raise BadHandler(name=name, reason=f"the provider {told} takes {unknown[0]!r}; there is {' and '.join(offers)}")
    return Provider(parameter.name, function, kind, wants)


def _read(provider: Callable[..., object]) -> tuple[Callable[..., object], Kind]:
    """Known by the function, not by what it returns: a connection is a context manager too."""
    if not (inspect.isroutine(provider) or isinstance(provider, type | partial)):
        provider = provider.__call__  # type: ignore[operator]  # of an object
    inner = inspect.unwrap(provider)
    if inspect.isasyncgenfunction(inner):
        yielding = cast("Callable[..., AsyncIterator[object]]", inner)
        return (asynccontextmanager(yielding) if inner is provider else provider), Kind.ASYNC_MANAGED
    if inspect.isgeneratorfunction(inner):
        plain = cast("Callable[..., Iterator[object]]", inner)
        return (contextmanager(plain) if inner is provider else provider), Kind.MANAGED
    return provider, Kind.AWAITED if inspect.iscoroutinefunction(inner) else Kind.VALUE


@contextmanager
def provided(providers: Sequence[Provider], offers: Offers) -> Iterator[Mapping[str, object]]:
    """The values by parameter, until the end of the block."""
    with ExitStack() as stack:
        given: dict[str, object] = {}
        for provider in providers:
            value = provider.call(offers)
            if provider.kind is Kind.MANAGED:
                value = stack.enter_context(cast("AbstractContextManager[object]", value))
            given[provider.parameter] = value
        yield given


@asynccontextmanager
async def provided_async(providers: Sequence[Provider], offers: Offers) -> AsyncIterator[Mapping[str, object]]:
    """As `provided`, for async functions."""
    async with AsyncExitStack() as stack:
        given: dict[str, object] = {}
        for provider in providers:
            value = provider.call(offers)
            match provider.kind:
                case Kind.AWAITED:
                    value = await value  # type: ignore[misc]  # of a coroutine function
                case Kind.MANAGED:
                    value = stack.enter_context(cast("AbstractContextManager[object]", value))
                case Kind.ASYNC_MANAGED:
                    value = await stack.enter_async_context(cast("AbstractAsyncContextManager[object]", value))
                case Kind.VALUE:
                    pass
            given[provider.parameter] = value
        yield given
