"""An executor inside a program that has an event loop of its own, e.g. a web application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from executor.app import Executor
from executor.daemon import Daemon, build
from executor.settings import ExecutorSettings
from protos.errors import ShardcastError
from protos.exits import first_of

log = structlog.get_logger(__name__)


@asynccontextmanager
async def running(app: Executor, **settings: object) -> AsyncIterator[None]:
    """Runs an app's handlers and listeners in the caller's event loop until the block ends, then drains.

    `settings` are those of the executor daemon by name, e.g. slots=2; what is not given comes from the environment and
    shardcast.toml, as for `shardcast executor`. The block begins once an admin has let the executor in: entering raises
    BadConfiguration, DirectoryUnusable, AddressInUse (of its probe), Unauthenticated, PermissionDenied, or Unreachable
    when no admin was found for `connect_seconds` (20). From then on it waits while admins are away. Leaving takes up to
    `drain_seconds` (25) for what still runs. Signals are the caller's.
    """
    async with build(ExecutorSettings.from_env(**settings), app) as daemon:
        serving = asyncio.create_task(daemon.run())
        try:
            await until_ready(daemon, serving)
            serving.add_done_callback(_tell)
            yield
        finally:
            daemon.stop()
            await ended(serving)


async def until_ready(daemon: Daemon, serving: asyncio.Task[None]) -> None:
    """Returns once an admin has let it in. Raises what ends it before that."""
    ready = asyncio.create_task(daemon.ready())
    try:
        await asyncio.wait((ready, serving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready.cancel()
    if serving.done():
        await ended(serving)


async def ended(serving: asyncio.Task[None]) -> None:
    """Returns when it has ended. Raises the first of our errors in place of a task group's bundle."""
    try:
        await serving
    except BaseExceptionGroup as bundle:
        ours, _ = bundle.split(ShardcastError)
        if ours is None:
            raise
        raise first_of(ours) from None


def _tell(serving: asyncio.Task[None]) -> None:
    """The caller hears of it when its block ends, which may be never."""
    if not serving.cancelled() and (error := serving.exception()) is not None:
        log.error("the executor ended", action="executor_ended", error=str(error), exc_info=error)
