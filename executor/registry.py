"""The handlers and listeners of an app: what a function asks for, read once from its signature."""

import enum
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, cast

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUndefinedAnnotation

from broker.client.message import Message
from broker.model import Mode
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

    def call(self, context: object, params: object) -> object:
        """Calls the function; the coroutine of an async one is the caller's to await."""
        given = {self.context: context, self.params: params}
        return self.function(**{name: value for name, value in given.items() if name is not None})


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


class Registry:
    """What an app offers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.listeners: list[Listener] = []

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
    for parameter in _signature(name, function).parameters.values():
        if parameter.name == "context" or parameter.annotation in context_types:
            context = parameter.name
        elif params is None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            params = parameter.name
            annotation = object if parameter.annotation is parameter.empty else parameter.annotation
        elif parameter.default is parameter.empty:
            raise BadHandler(name=name, reason=f"it takes more than a context and parameters: {parameter.name!r}")
    isolation = _isolation(name, function, manner)
    return Handler(name, function, manner, isolation, context, params, _adapter(name, annotation))


def takes_one(name: str, function: Function) -> bool:
    """Whether a listener asks for single messages, by the annotation of its first parameter. Raises BadHandler."""
    parameters = [each for each in _signature(name, function).parameters.values() if each.kind is not each.KEYWORD_ONLY]
    if not parameters or any(each.default is each.empty for each in parameters[1:]):
        raise BadHandler(name=name, reason="a listener takes one parameter: a message, or a list of them")
    annotation = parameters[0].annotation
    return isinstance(annotation, type) and issubclass(annotation, Message)


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
