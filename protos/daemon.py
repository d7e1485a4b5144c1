"""The life that all daemons share: settings, build, run, a stop in two stages, one ready line on standard output."""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog
from structlog.tracebacks import ExceptionDictTransformer

log = structlog.get_logger(__name__)

STOP_WITH_STDIN = "SHARDCAST_STOP_WITH_STDIN"
"""Set by a parent that holds the other end of the daemon's standard input."""


class House(Protocol):
    """A daemon that is built and listening."""

    @property
    def endpoints(self) -> Mapping[str, str]:
        """Where it listens, by kind: {"grpc": "127.0.0.1:8081"}; empty for one that only dials."""

    async def ready(self) -> None:
        """Returns once it can do its work."""

    async def run(self) -> None:
        """Serves until `stop` was called and what had begun is finished or handed back."""

    def stop(self) -> None:
        """The first signal: drain, then let `run` return."""


def live(name: str, building: AbstractAsyncContextManager[House], *, collects_seldom: bool = False) -> None:
    """Runs a daemon to its end. The first SIGTERM or SIGINT drains it, the second leaves at once.

    Once it is ready it prints one JSON line {"ready": name, ...endpoints} on standard output. Errors of its start are
    the caller's to tell.

    `collects_seldom` is for a daemon that runs only our code, which makes no cycles: the collector leaves alone what
    was built and looks at the rest seldom. It took the scheduler an eighth of its time.
    """
    configure_logs()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_live(name, building, collects_seldom))


async def _live(name: str, building: AbstractAsyncContextManager[House], collects_seldom: bool) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stopping, asyncio.current_task())
    if os.environ.get(STOP_WITH_STDIN):
        loop.add_reader(sys.stdin, _on_stdin, loop, stopping)
    try:
        async with building as house, asyncio.TaskGroup() as group:
            if collects_seldom:
                gc.freeze()
                gc.set_threshold(100_000, 20, 100)
            serving = group.create_task(house.run())
            announcing = group.create_task(_announce(name, house))
            waiting = group.create_task(stopping.wait())
            await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                log.info("draining", action="draining", daemon=name)
                house.stop()
                await serving
            waiting.cancel()
            announcing.cancel()
    except asyncio.CancelledError:
        log.warning("left before the drain was over", action="left", daemon=name)
    else:
        log.info("stopped", action="stopped", daemon=name)


async def _announce(name: str, house: House) -> None:
    await house.ready()
    print(json.dumps({"ready": name, **house.endpoints}), flush=True)
    log.info("ready", action="ready", daemon=name, pid=os.getpid(), **house.endpoints)


def _on_stdin(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    """The parent is gone, however it ended: no daemon stays behind on its own."""
    if not os.read(sys.stdin.fileno(), 1):
        loop.remove_reader(sys.stdin)
        stopping.set()


def _on_signal(stopping: asyncio.Event, task: asyncio.Task[None] | None) -> None:
    if stopping.is_set() and task is not None:
        task.cancel()
    stopping.set()


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    return uvloop.Loop


def configure_logs(level: int = logging.INFO) -> None:
    """One JSON object per line on standard error, those of libraries included."""
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),  # tokens are among them
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for noisy in ("httpx", "httpcore", "alembic", "uvicorn.error", "apscheduler"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
