"""Every error as problem+json (RFC 9457) with its stable code."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from protos.errors import InvalidArgument, ShardcastError, Status

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
_HTTP: Mapping[Status, int] = {
    Status.CANCELLED: 499,
    Status.INVALID_ARGUMENT: 400,
    Status.DEADLINE_EXCEEDED: 504,
    Status.NOT_FOUND: 404,
    Status.ALREADY_EXISTS: 409,
    Status.PERMISSION_DENIED: 403,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.FAILED_PRECONDITION: 409,
    Status.ABORTED: 412,
    Status.OUT_OF_RANGE: 400,
    Status.UNIMPLEMENTED: 501,
    Status.INTERNAL: 500,
    Status.UNAVAILABLE: 503,
    Status.DATA_LOSS: 500,
    Status.UNAUTHENTICATED: 401,
}


class UnknownAddress(ShardcastError):
    """There is nothing at {path}; /api/v1/openapi.json lists what there is."""

    code = "unknown_address"
    status = Status.NOT_FOUND


class MethodNotAllowed(ShardcastError):
    """{path} does not take {method}."""

    code = "method_not_allowed"
    status: ClassVar[Status] = Status.INVALID_ARGUMENT


def problem(error: ShardcastError, http: int | None = None, headers: Mapping[str, str] | None = None) -> JSONResponse:
    status = http or _HTTP[error.status]
    body = {
        **{name: _shown(value) for name, value in error.fields.items()},
        "type": "about:blank",
        "title": HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error",
        "status": status,
        "code": error.code,
        "detail": _text(error),
    }
    asked = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    return JSONResponse(body, status, {**asked, **(headers or {})}, media_type=MEDIA_TYPE)


def _shown(value: object) -> object:
    """What was given, as it can be sent: numbers, lists, and all else as text."""
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return value if isinstance(value, int) else _text(value)


def _text(value: object) -> str:
    return str(value).encode(errors="replace").decode()


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ShardcastError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)


async def _on_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ShardcastError)
    return problem(error)


async def _on_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    kind = request.headers.get("content-type", "")
    if "json" not in kind and any(tuple(fault["loc"]) == ("body",) for fault in error.errors()):
        reason = f"a body of the type {kind or '(none)'} is not understood: send application/json"
        return problem(InvalidArgument(reason=reason), HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    faults = [f"{_place(fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}" for fault in error.errors()]
    return problem(InvalidArgument(reason="; ".join(faults)))


def _place(location: Sequence[object]) -> str:
    """("query", "limit") is "limit"; what is wrong with all of the body or the query is theirs."""
    return ".".join(map(str, location[1:] or location))


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = request.url.path
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return problem(UnknownAddress(path=path))
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return problem(MethodNotAllowed(path=path, method=request.method), error.status_code, error.headers)
        case _:
            return problem(InvalidArgument(reason=str(error.detail)), error.status_code, error.headers)


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("call failed", action="call_failed", path=request.url.path, exc_info=error)
    return problem(ShardcastError())
