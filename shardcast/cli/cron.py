"""`shardcast cron`: when an expression fires."""

import sys
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
    skipped: Annotated[str, typer.Option(help="A wall time that a clock change skips: skip or shift.")] = "skip",
    repeated: Annotated[str, typer.Option(help="One that it repeats: once or twice.")] = "once",
) -> None:
    """Print the next fire times of an expression."""
    from admin.domain.trigger import Cron, Dialect, Repeated, Skipped, cron_fires
    from protos.errors import InvalidArgument

    try:
        cron = Cron(expression, zone, Dialect(dialect), Skipped(skipped), Repeated(repeated))
    except ValueError as error:
        raise InvalidArgument(reason=f"{error}: see --help.") from error
    fires = cron_fires(cron, datetime.now(UTC), count)
    for fire in fires:
        print(fire.isoformat())
    if len(fires) < count:
        print("It never fires again." if not fires else "It never fires behind that.", file=sys.stderr)
