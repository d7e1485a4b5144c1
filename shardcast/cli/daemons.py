"""`shardcast up`, `admin`, `broker`, `executor`: what runs until it is told to stop."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from shardcast.up import ANY_BROKER_PORT, ANY_GRPC_PORT, ANY_HTTP_PORT, BUILT_IN_APP, Plan, running

DEFAULT_DATA = Path("shardcast-data")
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 is any free port.")]
OptionalPort = Annotated[int | None, typer.Option(min=0, max=65535, help="0 is any free port.")]
OptionalData = Annotated[Path | None, typer.Option(help="Directory for everything that lasts.")]


def register(app: typer.Typer) -> None:
    for command in (up, admin, broker, executor):
        app.command()(command)


def up(
    data: Annotated[Path, typer.Option(help="Directory for everything that lasts.")] = DEFAULT_DATA,
    executors: Annotated[int, typer.Option(min=0, max=64)] = 2,
    app: Annotated[str, typer.Option(metavar="MODULE:APP", help="The executors' handlers.")] = BUILT_IN_APP,
    http_port: Port = ANY_HTTP_PORT,
    grpc_port: Port = ANY_GRPC_PORT,
    broker_port: Port = ANY_BROKER_PORT,
) -> None:
    """Run all daemons on this machine until Ctrl-C."""
    asyncio.run(_up(Plan(data, executors, app, http_port, grpc_port, broker_port)))


async def _up(plan: Plan) -> None:
    async with stopped_by_signals(), running(plan) as fleet:
        print(f"Shardcast runs at {fleet.endpoints.http} (token in {fleet.endpoints.token_file})", flush=True)
        await asyncio.Event().wait()


@asynccontextmanager
async def stopped_by_signals() -> AsyncIterator[None]:
    """SIGTERM and SIGINT cancel the block, which then ends quietly; a second one cancels what it does to end."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        yield


def admin(data: OptionalData = None, http_port: OptionalPort = None, grpc_port: OptionalPort = None) -> None:
    """Run the admin: schedules jobs and hands their shards to executors."""
    from admin.__main__ import main

    main(_flags(data=data, http_port=http_port, grpc_port=grpc_port))


def broker(
    data: OptionalData = None,
    port: OptionalPort = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback although there are no access keys.")
    ] = False,
) -> None:
    """Run the broker: topics, queues and consumer groups over one commit log."""
    from broker.__main__ import main

    main([*_flags(data=data, port=port), *(["--insecure"] if insecure else [])])


def executor(
    app: Annotated[str, typer.Argument(metavar="MODULE:APP", help="Where the Executor object is.")],
    probe_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Answer /livez, /readyz and /metrics here; 0 is any free port."),
    ] = None,
) -> None:
    """Run an executor: its settings come from the environment or shardcast.toml."""
    from executor.__main__ import main

    main([app, *_flags(probe_port=probe_port)])


def _flags(**given: object) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
