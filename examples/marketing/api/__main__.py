"""Serves the API until SIGTERM or SIGINT, on loopback unless told otherwise."""

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import uvicorn
from sqlalchemy.exc import SQLAlchemyError

from examples.marketing.api.app import create_app
from examples.marketing.errors import BadSettings
from examples.marketing.settings import Settings
from shardcast import ShardcastError

BAD_SETTINGS, UNREACHABLE, PORT_IN_USE = 78, 69, 73  # as the daemons exit


class Server(uvicorn.Server):
    """Says on standard output when it answers; signals are ours."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        host, port = sockets[0].getsockname()[:2]
        print(json.dumps({"ready": "api", "http": f"{host}:{port}"}), flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True


async def serve(settings: Settings, listening: socket.socket) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1)
        server = Server(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        if os.environ.get("SHARDCAST_STOP_WITH_STDIN"):  # set by a parent: its end is ours
            loop.add_reader(sys.stdin, server.stop)
        await server.serve([listening])


def listen(host: str, port: int) -> socket.socket:
    """Port 0 is any free one. Raises OSError or OverflowError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.marketing.api", description=__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings, in YAML")
    parser.add_argument("--host", default="127.0.0.1", help="the API asks for no login: think before you change this")
    parser.add_argument("--port", type=int, default=8090)
    flags = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    try:
        listening = listen(flags.host, flags.port)
    except (OSError, OverflowError) as error:
        _fail(f"Cannot listen on {flags.host}:{flags.port}: {getattr(error, 'strerror', error)}.", PORT_IN_USE)
    try:
        with listening:
            asyncio.run(serve(Settings.load(flags.config), listening))
    except BadSettings as error:
        _fail(str(error), BAD_SETTINGS)
    except ShardcastError as error:
        _fail(str(error), UNREACHABLE)
    except SQLAlchemyError as error:
        _fail(f"The database cannot be used: {error}", UNREACHABLE)


def _fail(sentence: str, code: int) -> NoReturn:
    print(" ".join(sentence.split()), file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
