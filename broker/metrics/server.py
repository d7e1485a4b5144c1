"""`/metrics`, `/livez` and `/readyz` over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive, Scope, Send

from broker.errors import BrokerStopping
from broker.face.upkeep.measuring import Measuring
from broker.metrics.families import CONTENT_TYPE, exposition
from protos.http import HttpServer, listen

_PLAIN = "text/plain; charset=utf-8"
_DRAIN_SECONDS = 1.0


class MonitorApp:
    """An ASGI application of three paths."""

    def __init__(self, measuring: Measuring) -> None:
        self._measuring = measuring

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        status, kind, body = await self._answer(scope["path"])
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    async def _answer(self, path: str) -> tuple[int, str, bytes]:
        try:
            match path:
                case "/metrics":
                    figures = await self._measuring.figures()
                    return 200, CONTENT_TYPE, await asyncio.to_thread(exposition, figures)
                case "/livez":
                    return 200, _PLAIN, b"ok\n"
                case "/readyz":
                    self._measuring.check_ready()
                    return 200, _PLAIN, b"ok\n"
        except BrokerStopping as error:
            return 503, _PLAIN, f"{error}\n".encode()
        return 404, _PLAIN, b"There are /metrics, /livez and /readyz.\n"


@asynccontextmanager
async def serve_monitor(host: str, port: int, measuring: Measuring) -> AsyncIterator[int]:
    """Serves until the block ends; yields the port, 0 being any free one. Raises AddressInUse."""
    with listen(host, port) as listening:
        server = HttpServer(MonitorApp(measuring), _DRAIN_SECONDS)
        serving = asyncio.create_task(server.serve([listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            server.stop()
            await serving
