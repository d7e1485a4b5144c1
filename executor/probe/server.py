"""`/livez`, `/readyz` and `/metrics` over HTTP, answered by the loop that does the work."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from executor.probe.families import families
from executor.probe.tally import Figures, why_unready
from protos.exposition import CONTENT_TYPE, exposed
from protos.http import PLAIN, Answer, serve_plain


def serve_probe(host: str, port: int, look: Callable[[], Figures]) -> AbstractAsyncContextManager[int]:
    """Serves until the block ends; yields the port, 0 being any free one. Raises AddressInUse."""

    async def answer(path: str) -> Answer:
        match path:
            case "/livez":
                return 200, PLAIN, b"ok\n"
            case "/readyz":
                reason = why_unready(look())
                return (200, PLAIN, b"ok\n") if reason is None else (503, PLAIN, f"{reason}\n".encode())
            case "/metrics":
                return 200, CONTENT_TYPE, exposed(families(look()))
        return 404, PLAIN, b"There are /livez, /readyz and /metrics.\n"

    return serve_plain(host, port, answer)
