"""Serving gRPC: one place for limits, health, reflection, tokens, and our errors given gRPC's names."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos.channel import CODE_KEY, FIELDS_KEY, OPTIONS
from protos.errors import AddressInUse, Malformed, NotSupported, ShardcastError

log = structlog.get_logger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in their stubs, not at run time
Call: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

Authorize = Callable[[str, str], Awaitable[object]]
"""(full method name, bearer token or "") -> who calls; raises Unauthenticated or PermissionDenied."""

Reader = Callable[[Any], Any]
"""Raises Malformed."""

principal: ContextVar[object] = ContextVar("principal")
"""Who makes the call that is being served: what Authorize returned."""

HEARING_SECONDS = 1.0
MOST_TOLD = 3_000
"""Bytes of an error's sentence, and of its fields: a client takes 8 KiB of what comes with the end of a call, and with
more than that the code would be lost."""
_OPEN_PREFIXES = ("/grpc.health.", "/grpc.reflection.")


@dataclass(frozen=True, slots=True)
class Service:
    """A servicer, the generated function that adds it, and its full name."""

    name: str
    add: Callable[[Any, grpc.aio.Server], None]
    servicer: object


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that takes calls on `port`."""

    port: int
    _health: health.aio.HealthServicer
    _names: tuple[str, ...]

    async def say_not_serving(self) -> None:
        """For a drain: health checks fail from now on, calls are still answered."""
        for name in self._names:
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)


@asynccontextmanager
async def serve(
    host: str,
    port: int,
    services: Sequence[Service],
    *,
    authorize: Authorize | None = None,
    on_refusal: Callable[[str], None] = lambda _code: None,
    grace_seconds: float = 2.0,
    most_connections: int = 1_024,
) -> AsyncIterator[Listening]:
    """Serves until the block ends, then lets calls finish for the grace time. Port 0 is any free one.

    `on_refusal` gets the code of each call that fails. A connection beyond the most finds nobody at home.

    Raises AddressInUse.
    """
    options = (*OPTIONS, ("grpc.so_reuseport", 0), ("grpc.max_allowed_incoming_connections", most_connections))
    server = grpc.aio.server(interceptors=[_Door(authorize, on_refusal)], options=options)
    for service in services:
        service.add(service.servicer, server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = ("", *(service.name for service in services))
    reflection.enable_server_reflection((*names[1:], health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise AddressInUse(address=f"{host}:{port}") from error
    await server.start()
    for name in names:
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield Listening(bound, checks, names)
    finally:
        await server.stop(grace_seconds)


class _Door(grpc.aio.ServerInterceptor):
    """Lets in who may come in, and sends our errors out under their code."""

    def __init__(self, authorize: Authorize | None, on_refusal: Callable[[str], None]) -> None:
        self._authorize = authorize
        self._on_refusal = on_refusal

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method.startswith(_OPEN_PREFIXES):
            return handler
        token = _bearer_token(handler_call_details.invocation_metadata)
        kind = (
            ("stream" if handler.request_streaming else "unary")
            + "_"
            + ("stream" if handler.response_streaming else "unary")
        )
        behaviour = getattr(handler, kind)
        wrap = self._wrap_stream if inspect.isasyncgenfunction(behaviour) else self._wrap_unary
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        read = _reader(handler, method)
        # Bytes come in here: what grpc's own deserialising refuses ends without a code of ours.
        wrapped: Handler = make(wrap(behaviour, read, method, token), None, handler.response_serializer)
        return wrapped

    async def _enter(self, method: str, token: str) -> None:
        if self._authorize is not None:
            principal.set(await self._authorize(method, token))

    def _wrap_unary(self, behaviour: Any, read: Reader, method: str, token: str) -> Any:
        async def call(request: Any, context: Call) -> Any:
            try:
                await self._enter(method, token)
                return await behaviour(read(request), context)
            except Exception as error:
                await self._abort(context, error, method)

        return call

    def _wrap_stream(self, behaviour: Any, read: Reader, method: str, token: str) -> Any:
        async def call(request: Any, context: Call) -> AsyncIterator[Any]:
            try:
                try:
                    await self._enter(method, token)
                except ShardcastError:
                    await _hear_out(request)
                    raise
                async for response in behaviour(read(request), context):
                    yield response
            except Exception as error:
                await self._abort(context, error, method)

        return call

    async def _abort(self, context: Call, error: Exception, method: str) -> None:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if isinstance(error, NotImplementedError):  # what the generated servicer raises
            error = NotSupported(feature=method)
        if not isinstance(error, ShardcastError):
            log.error("call failed", action="call_failed", method=method, exc_info=error)
            error = ShardcastError()
        code = _code_of(error)
        self._on_refusal(code)
        trailers = ((CODE_KEY, code), (FIELDS_KEY, _fields_of(error)))
        await context.abort(grpc.StatusCode[error.status.name], _sentence_of(error), trailers)


def _reader(handler: "Handler", method: str) -> Reader:
    """From the bytes of a call to its request, or from those of its stream to its requests."""
    decode = handler.request_deserializer

    def one(data: bytes) -> Any:
        try:
            return decode(data) if decode else data
        except DecodeError as error:
            raise Malformed(method=method) from error

    async def many(pieces: AsyncIterable[bytes]) -> AsyncIterator[Any]:
        async for data in pieces:
            yield one(data)

    return many if handler.request_streaming else one


async def _hear_out(request: Any) -> None:
    """Takes the first message of a stream that is refused: a client cut off in its first write never learns why."""
    if isinstance(request, AsyncIterable):
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARING_SECONDS):
                await anext(aiter(request), None)


def _code_of(error: ShardcastError) -> str:
    return str(error.fields.get("remote_code", error.code))


def _sentence_of(error: ShardcastError) -> str:
    """Its beginning where it is too long as it is sent, with %0A for a new line."""
    whole = sentence = str(error)
    while len(quote(sentence, errors="replace")) > MOST_TOLD:
        sentence = sentence[: len(sentence) // 2]
    return sentence if sentence == whole else f"{sentence}..."


def _fields_of(error: ShardcastError) -> bytes:
    """Without those that are too long: the shorter ones go first."""
    told, left = dict[str, str](), MOST_TOLD
    texts = {name: json.dumps(value, default=str) for name, value in error.fields.items()}
    for name, text in sorted(texts.items(), key=lambda item: len(item[1])):
        left -= len(name) + len(text)
        if left >= 0:
            told[name] = text
    return json.dumps({name: json.loads(text) for name, text in told.items()}).encode()


def _bearer_token(metadata: Any) -> str:
    for key, value in metadata:
        if key == "authorization" and value.startswith("Bearer "):
            return str(value.removeprefix("Bearer "))
    return ""
