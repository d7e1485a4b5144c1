"""Every error as problem+json (RFC 9457) with its stable code; what went wrong inside is for the log alone."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from examples.marketing.errors import MarketingError
from examples.marketing.settings import sentence
from shardcast import ShardcastError

log = logging.getLogger(__name__)

_AWAY = ("unavailable", "deadline_exceeded")


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ShardcastError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    for kind in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(kind, _on_database)
    app.add_exception_handler(Exception, _on_bug)


def _problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


async def _on_error(_: Request, error: Exception) -> JSONResponse:
    """Ours, or what broker and admin answered."""
    assert isinstance(error, ShardcastError)
    if isinstance(error, MarketingError):
        return _problem(getattr(error, "http_status", 500), error.code, str(error))
    return _problem(503 if error.status in _AWAY else 502, error.code, str(error))


async def _on_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _problem(422, "bad_request", sentence(error.errors()))


async def _on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return _problem(error.status_code, code, str(error.detail), error.headers)


async def _on_database(request: Request, error: Exception) -> JSONResponse:
    log.error("the database does not answer", extra={"action": "database_away", "path": request.url.path})
    return _problem(503, "database_away", "The database does not answer: try again.")


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("call failed", extra={"action": "call_failed", "path": request.url.path}, exc_info=error)
    return _problem(500, "internal", "Something failed inside; the log says more.")
