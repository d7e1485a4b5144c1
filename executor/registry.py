"""The handlers and listeners of an app: what a function asks for, read once from its signature."""

import enum
import inspect
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, Protocol, cast

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUndefinedAnnotation

from broker.client.message import Message
from broker.model import Mode
from executor.depends import CONTEXT, STATE, Offers, Provider, provided, provided_async, provider_of
from executor.errors import BadHandler, BadParams, HandlerExists, UnknownHandler

Function = Callable[..., object]
Errors = type[Exception] | tuple[type[Exception], ...]


class Isolation(enum.StrEnum):
    """Where a handler runs."""

    ASYNC = enum.auto()  # in the executor's loop
    THREAD = enum.auto()  # of its own
    PROCESS = enum.auto()  # of its own, which can be killed


@dataclass(frozen=True, slots=True)
class Manner:
    """How a handler is to be run. None: async functions in the loop, others in a thread; as many as there are slots."""

    isolation: Isolation | None = None
    slots: int | None = None  # attempts side by side in one executor
    retry_on: tuple[type[Exception], ...] = ()  # where there are any, only these are tried again
    give_up_on: tuple[type[Exception], ...] = ()

    def may_retry(self, error: BaseException) -> bool | None:
        """What was said of such an error that a handler raised; None: nothing."""
        if isinstance(error, self.give_up_on):
            return False
        return isinstance(error, self.retry_on) if self.retry_on else None


PLAIN = Manner()


class HasState(Protocol):
    """The context of an attempt, as providers need it."""

    @property
    def state(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that runs shards, and how it wants to be called."""

    name: str
    function: Function
    manner: Manner
    isolation: Isolation
    context: str | None  # name of the parameter that takes the context
    params: str | None  # name of the parameter that takes the run's parameters
    adapter: TypeAdapter[object]
    providers: Sequence[Provider] = ()

    @property
    def is_async(self) -> bool:
        return self.isolation is Isolation.ASYNC

    @property
    def params_schema(self) -> str:
        """JSON schema of the parameters as text; "" where they have none."""
        try:
            return json.dumps(self.adapter.json_schema()) if self.params else ""
        except PydanticInvalidForJsonSchema:
            return ""

    def decode(self, params: str) -> object:
        """The run's parameters as the type that the function asks for. Raises BadParams."""
        try:
            return self.adapter.validate_json(params or "null")
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, fault['loc'])) or 'params'}: {fault['msg']}" for fault in error.errors())
            raise BadParams(name=self.name, reason="; ".join(faults)) from error

    def call(self, context: HasState, params: object) -> object:
        """Calls the function with what it asks for; the coroutine of an async one is the caller's to await."""
        given = {self.context: context, self.params: params}
        known = {name: value for name, value in given.items() if name is not None}
        offers = {CONTEXT: lambda: context, STATE: lambda: context.state}
        return _called(self.name, self.function, self.providers, offers, known, is_async=self.is_async)


@dataclass(frozen=True, slots=True)
class Listener:
    """A function that takes the messages of topics as a member of a consumer group, in lists or one by one."""

    topics: Sequence[str]
    group: str
    function: Function
    is_async: bool
    takes_one: bool
    mode: Mode
    slots: int  # calls side by side
    max_messages: int  # of one call
    tags: Sequence[str] = ()  # none: all messages
    start: Literal["earliest", "latest"] | datetime = "earliest"  # of a queue that the group never read
    lease: timedelta = timedelta(seconds=30)  # by lease: what a process has that dies is for others then
    providers: Sequence[Provider] = ()
    to: str | None = None  # the topic of what it returns; None: that is no message

    def call(self, given: object, state: object) -> object:
        """Calls the function with a message or a list of them; the coroutine of an async one is the caller's."""
        offers = {STATE: lambda: state}
        function = partial(self.function, given)
        return _called(self.group, function, self.providers, offers, {}, is_async=self.is_async)


@dataclass(frozen=True, slots=True)
class Middleware:
    """A function of the context and of the rest of the way, around each call of a handler."""

    name: str
    function: Function
    is_async: bool


class Registry:
    """What an app offers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.listeners: list[Listener] = []
        self.middleware: list[Middleware] = []  # the first one is outermost

    def add(self, handler: Handler) -> None:
        """Raises HandlerExists."""
        if handler.name in self.handlers:
            raise HandlerExists(name=handler.name)
        self.handlers[handler.name] = handler

    def get(self, name: str) -> Handler:
        """Raises UnknownHandler."""
        if name not in self.handlers:
            raise UnknownHandler(name=name, known=", ".join(sorted(self.handlers)) or "none")
        return self.handlers[name]


def describe(
    name: str,
    function: Function,
    context_types: Sequence[type],
    manner: Manner = PLAIN,
) -> Handler:
    """Reads a signature: at most a context, known by its type or its name, and the parameters. Raises BadHandler."""
    context: str | None = None
    params: str | None = None
    annotation: object = object
    providers: list[Provider] = []
    isolation = _isolation(name, function, manner)
    offers = (CONTEXT,) if isolation is Isolation.PROCESS else (CONTEXT, STATE)
    for parameter in _signature(name, function).parameters.values():
        provider = provider_of(name, parameter, is_async=isolation is Isolation.ASYNC, offers=offers)
        if provider is not None:
            providers.append(provider)
        elif parameter.name == "context" or parameter.annotation in context_types:
            context = parameter.name
        elif params is None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            params = parameter.name
            annotation = object if parameter.annotation is parameter.empty else parameter.annotation
        elif parameter.default is parameter.empty:
            raise BadHandler(name=name, reason=f"it takes more than a context and parameters: {parameter.name!r}")
    return Handler(name, function, manner, isolation, context, params, _adapter(name, annotation), providers)


def read_listener(name: str, function: Function) -> tuple[bool, Sequence[Provider]]:
    """Whether a listener asks for single messages, by the annotation of its first parameter, and its providers. Raises
    BadHandler.
    """
    is_async = inspect.iscoroutinefunction(function)
    found = {
        each: provider_of(name, each, is_async=is_async, offers=(STATE,))
        for each in _signature(name, function).parameters.values()
    }
    parameters = [each for each, provider in found.items() if provider is None and each.kind is not each.KEYWORD_ONLY]
    if not parameters or any(each.default is each.empty for each in parameters[1:]):
        raise BadHandler(name=name, reason="a listener takes one parameter: a message, or a list of them")
    annotation = parameters[0].annotation
    is_single = isinstance(annotation, type) and issubclass(annotation, Message)
    return is_single, [provider for provider in found.values() if provider is not None]


def read_middleware(function: Function) -> Middleware:
    """Raises BadHandler."""
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"
    try:
        _signature(name, function).bind(None, None)
    except TypeError as error:
        raise BadHandler(name=name, reason=f"a middleware takes the context and call_next: {error}") from error
    return Middleware(name, function, inspect.iscoroutinefunction(function))


def _called(
    name: str,
    function: Function,
    providers: Sequence[Provider],
    offers: Offers,
    given: Mapping[str, object],
    *,
    is_async: bool,
) -> object:
    if not providers:
        return function(**given)
    if is_async:
        return _awaited(name, function, providers, offers, given)
    with provided(providers, offers) as more:
        return function(**given, **more)
    raise BadHandler(name=name, reason="one of its providers swallowed its error")


async def _awaited(
    name: str, function: Function, providers: Sequence[Provider], offers: Offers, given: Mapping[str, object]
) -> object:
    async with provided_async(providers, offers) as more:
        return await cast("Coroutine[None, None, object]", function(**given, **more))
    raise BadHandler(name=name, reason="one of its providers swallowed its error")


def _signature(name: str, function: Function) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except NameError as error:
        raise BadHandler(name=name, reason=f"an annotation cannot be resolved: {error}") from error


def _isolation(name: str, function: Function, manner: Manner) -> Isolation:
    """Where it is to run. Raises BadHandler for what cannot be."""
    is_async = inspect.iscoroutinefunction(function)
    isolation = manner.isolation or (Isolation.ASYNC if is_async else Isolation.THREAD)
    if is_async and isolation is not Isolation.ASYNC:
        raise BadHandler(name=name, reason=f"an async function runs in the loop, not in a {isolation} of its own")
    if not is_async and isolation is Isolation.ASYNC:
        raise BadHandler(name=name, reason="isolation async is for async functions, and this is a plain one")
    if isolation is Isolation.PROCESS:
        for each in (function, *manner.retry_on, *manner.give_up_on):
            if (reason := _unreachable(each)) is not None:
                raise BadHandler(name=name, reason=f"its process imports by module and name, and {reason}")
    return isolation


def _unreachable(function: object) -> str | None:
    """Why another process cannot import a function or a class; None: it can."""
    module, path = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not module or not path:
        return f"{function!r} has none"
    if "<" in path:
        return f"{path} is a lambda or stands inside of another function"
    if module == "__main__":
        return "__main__ is another module there: put the app into a module"
    return None


def _adapter(name: str, annotation: object) -> TypeAdapter[object]:
    try:
        return TypeAdapter(cast(type[object], annotation))
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation) as error:
        raise BadHandler(name=name, reason=f"parameters cannot have the type {annotation!r}") from error
