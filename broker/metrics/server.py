"""`/metrics`, `/livez` and `/readyz` over HTTP."""

import asyncio
from contextlib import AbstractAsyncContextManager

from broker.errors import BrokerStopping
from broker.face.upkeep.measuring import Measuring
from broker.metrics.families import families
from protos.exposition import CONTENT_TYPE, exposed
from protos.http import PLAIN, Answer, serve_plain


def serve_monitor(host: str, port: int, measuring: Measuring) -> AbstractAsyncContextManager[int]:
    """Serves until the block ends; yields the port, 0 being any free one. Raises AddressInUse."""

    async def answer(path: str) -> Answer:
        try:
            match path:
                case "/metrics":
                    figures = await measuring.figures()
                    return 200, CONTENT_TYPE, await asyncio.to_thread(lambda: exposed(families(figures)))
                case "/livez":
                    return 200, PLAIN, b"ok\n"
                case "/readyz":
                    measuring.check_ready()
                    return 200, PLAIN, b"ok\n"
        except BrokerStopping as error:
            return 503, PLAIN, f"{error}\n".encode()
        return 404, PLAIN, b"There are /metrics, /livez and /readyz.\n"

    return serve_plain(host, port, answer)
