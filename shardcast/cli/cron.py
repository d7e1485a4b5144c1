"""`shardcast cron`: when an expression fires."""

from datetime import UTC, datetime
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Cron expressions.")


@app.callback()
def _group() -> None:
    """Keeps `next` a word of its own although it is the only one."""


@app.command("next")
def show_next(
    expression: Annotated[str, typer.Argument(help='In quotes, e.g. "0 0 9 * * ?".')],
    count: Annotated[int, typer.Option("-n", min=1, max=1000, help="How many.")] = 10,
    zone: Annotated[str, typer.Option("--tz", metavar="ZONE", help="IANA name of the time zone.")] = "UTC",
    dialect: Annotated[str, typer.Option(help="quartz (6 or 7 fields) or unix (5).")] = "quartz",
) -> None:
    """Print the next fire times of an expression."""
    from shardcast import fire_times

    for fire in fire_times(expression, zone=zone, after=datetime.now(UTC), count=count, dialect=dialect):
        print(fire.isoformat())
