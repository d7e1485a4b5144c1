"""A small client of the admin's REST API, for programs, the command line and the demo."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import broker.errors  # noqa: F401  # what the admin passes on comes out as the class that declares its code
from protos.errors import (
    BadConfiguration,
    InvalidArgument,
    PermissionDenied,
    RemoteError,
    ShardcastError,
    TimedOut,
    Unauthenticated,
    Unreachable,
    restore,
)

if TYPE_CHECKING:
    import httpx  # at run time by those who call: its import is a tenth of the time that a daemon takes to start

CALL_SECONDS = 30.0
DEFAULT_SERVER = "http://127.0.0.1:8080"
_NEAREST: Mapping[int, type[ShardcastError]] = {
    400: InvalidArgument,
    403: PermissionDenied,
    503: Unreachable,
    504: TimedOut,
}


class RestClient:
    """Calls the API under /api/v1; a context manager.

    `server` is the admin's HTTP address, e.g. "http://127.0.0.1:8080". Every call may raise Unreachable, TimedOut, or
    the error whose code the admin answered; to make one raises Unreachable and Unauthenticated for an address and a
    token that cannot be one.
    """

    def __init__(self, server: str, token: str) -> None:
        import httpx

        self._server = server.rstrip("/")
        if not (token.isascii() and token.isprintable()):
            raise Unauthenticated
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(
                base_url=f"{self._server}/api/v1", headers=headers, timeout=CALL_SECONDS, trust_env=False
            )
        except httpx.InvalidURL as error:
            raise Unreachable(address=self._server) from error

    @classmethod
    def from_env(cls) -> Self:
        """As the command line finds the admin: SHARDCAST_SERVER, SHARDCAST_TOKEN or SHARDCAST_TOKEN_FILE."""
        server, token = os.environ.get("SHARDCAST_SERVER"), os.environ.get("SHARDCAST_TOKEN")
        return cls(server or DEFAULT_SERVER, token or token_from_file())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int | None) -> Any:
        """The body of the answer, as JSON gives it."""
        return self._call("GET", path, params={key: value for key, value in query.items() if value is not None})

    def get_all(self, path: str, field: str, **query: str | int | None) -> dict[str, list[Any]]:
        """All pages of a list as one body."""
        found, page_token = [], ""
        while True:
            page = self.get(path, page_token=page_token or None, **query)
            found += page[field]
            if not (page_token := page.get("next_page_token")):
                return {field: found}

    def post(self, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
        return self._call("POST", path, json=body, headers=headers)

    def put(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Any:
        return self._call("PUT", path, json=body, headers=headers)

    def patch(self, path: str, body: object) -> Any:
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        import httpx

        try:
            response = self._http.request(method, path, **options)
        except httpx.TimeoutException as error:
            raise TimedOut(address=self._server) from error
        except (httpx.TransportError, httpx.InvalidURL, httpx.DecodingError) as error:
            raise Unreachable(address=self._server) from error
        except ValueError as error:
            raise InvalidArgument(reason=f"What was given cannot be sent as JSON: {error}.") from error
        if not response.is_success:
            raise _problem(response, self._server)
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise _problem(response, self._server) from error


def token_from_file() -> str:
    """What stands in the file that SHARDCAST_TOKEN_FILE names; "" if it names none. Raises BadConfiguration."""
    path = os.environ.get("SHARDCAST_TOKEN_FILE")
    if not path:
        return ""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadConfiguration(faults=f"SHARDCAST_TOKEN_FILE {path}: {reason}") from error


def _problem(response: "httpx.Response", server: str) -> ShardcastError:
    try:
        problem = response.json()
        error = restore(
            str(problem["code"]), str(problem.get("detail") or problem["title"]), problem.get("fields") or {}
        )
    except (ValueError, KeyError, TypeError):
        return Unreachable(f"{server} answered {response.status_code}: this is no Shardcast admin.")
    if isinstance(error, RemoteError):  # its class lives in the admin, which is not loaded here
        return _NEAREST.get(response.status_code, RemoteError)(str(error), **error.fields)
    return error
