"""Uvicorn inside our own loop: our signals, our sockets, our logs."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from protos.errors import AddressInUse

BACKLOG = 1024
PLAIN = "text/plain; charset=utf-8"
PLAIN_DRAIN_SECONDS = 1.0

Answer = tuple[int, str, bytes]  # status, content type, body


class HttpServer(uvicorn.Server):
    """Leaves signals to the daemon: uvicorn's own handling would end the process before gRPC has drained."""

    def __init__(self, app: ASGIApp, drain_seconds: float) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(drain_seconds)),
        )
        super().__init__(config)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; port 0 is any free one. Raises AddressInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # asyncio sends at once only if it is said
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise AddressInUse(address=f"{host}:{port}") from error
    return listening


@asynccontextmanager
async def serve_plain(host: str, port: int, answer: Callable[[str], Awaitable[Answer]]) -> AsyncIterator[int]:
    """Serves a few paths to monitors until the block ends; yields the port, 0 being any free one.

    Raises AddressInUse.
    """

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        status, kind, body = await answer(scope["path"])
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    with listen(host, port) as listening:
        server = HttpServer(app, PLAIN_DRAIN_SECONDS)
        serving = asyncio.create_task(server.serve([listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            server.stop()
            await serving
