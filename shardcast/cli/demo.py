"""`shardcast demo`: the main job, from a table to every user exactly once."""

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protos.exits import Exit, fail

if TYPE_CHECKING:
    from shardcast.demo.audience import Audience
    from shardcast.demo.report import Report
    from shardcast.demo.scenarios import ScenarioReport

DEFAULT_USERS = 1_000_000
SCENARIOS = "Play one of the marketing system: promotion, coupon, designated, hot-goods, order-canceled."

IdColumn = Annotated[str | None, typer.Option(help="Names each row once. Default: row number of a CSV, id.")]
Where = Annotated[str | None, typer.Option(metavar="FILTER", help="Only rows like: age >= 18 and city = 'Rome'")]
Scenario = Annotated[str | None, typer.Option(help=SCENARIOS)]


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    users: Annotated[int | None, typer.Option(min=0, help="Generate so many users (default 1,000,000).")] = None,
    csv: Annotated[Path | None, typer.Option(help="Push to the rows of this file (.csv or .csv.gz).")] = None,
    database: Annotated[str | None, typer.Option(metavar="URL", help="Push to a table of this database.")] = None,
    table: Annotated[str | None, typer.Option(help="The table, with --database.")] = None,
    id_column: IdColumn = None,
    where: Where = None,
    shards: Annotated[int, typer.Option(min=1, max=1024)] = 8,
    executors: Annotated[int, typer.Option(min=1, max=64)] = 2,
    consumers: Annotated[int, typer.Option(min=1, max=64)] = 2,
    deliveries: Annotated[Path | None, typer.Option(help="Write one JSON line per provider call here.")] = None,
    data: Annotated[Path | None, typer.Option(help="Keep everything here instead of a temporary directory.")] = None,
    scenario: Scenario = None,
    chaos: Annotated[bool, typer.Option("--chaos", help="Kill executors, broker and admin every few seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as one JSON line.")] = False,
) -> None:
    """Push a promotion to every row of a table, and prove that each got it exactly once."""
    from shardcast.demo.campaign import Campaign, hold
    from shardcast.demo.scenarios import Stage, load

    _refuse_mixtures(users, csv, database, table)
    if scenario is not None:
        _refuse_unplayable(users, (csv, database, id_column, where))
    play = load(scenario) if scenario is not None else None
    _check_filter(where)  # before anything is made
    with ExitStack() as stack:
        directory = _directory(data, stack)
        _truncate(deliveries)
        show = stack.enter_context(_bars())
        if play is not None:
            many = DEFAULT_USERS if users is None else users
            stage = Stage(many, directory, shards, executors, consumers, deliveries, is_chaotic=chaos, show=show)
            report: Report | ScenarioReport = asyncio.run(play(stage))
        else:
            audience = _audience(directory, users, csv, database, table, id_column, where)
            campaign = Campaign(audience, directory, shards, executors, consumers, deliveries, is_chaotic=chaos)
            report = asyncio.run(hold(campaign, partial(show, audience.size)))
    print(report.as_json() if as_json else report.as_lines())
    if not report.is_exact:
        raise SystemExit(int(Exit.FAILED))


def _check_filter(where: str | None) -> None:
    """Raises BadFilter."""
    from executor.sharding.filter import parse_filter

    if where is not None:
        parse_filter(where)


def _refuse_unplayable(users: int | None, others: Sequence[object]) -> None:
    if any(option is not None for option in others):
        raise typer.BadParameter("a scenario makes its own users: give it --users alone")
    if users == 0:
        raise typer.BadParameter("a scenario needs users: there is nobody to play it for")


def _refuse_mixtures(users: int | None, csv: Path | None, database: str | None, table: str | None) -> None:
    if sum(option is not None for option in (users, csv, database)) > 1:
        raise typer.BadParameter("give one of --users, --csv and --database")
    if (database is None) != (table is None):
        raise typer.BadParameter("--database and --table go together")


def _directory(data: Path | None, stack: ExitStack) -> Path:
    if data is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shardcast-demo-")))
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"The data directory {data} cannot be used: {error.strerror}.", Exit.CANNOT_CREATE)
    return data.absolute()


def _truncate(path: Path | None) -> None:
    if path is None:
        return
    try:
        path.write_bytes(b"")
    except OSError as error:
        fail(f"Cannot write {path}: {error.strerror}.", Exit.CANNOT_CREATE)


def _audience(
    directory: Path,
    users: int | None,
    csv: Path | None,
    database: str | None,
    table: str | None,
    id_column: str | None,
    where: str | None,
) -> "Audience":
    from shardcast.demo import audience

    if csv is not None:
        return audience.from_csv(directory / "audience.db", csv, id_column, where)
    if database is not None and table is not None:
        return audience.from_database(database, table, id_column or "id", where)
    return audience.generated(directory / "audience.db", DEFAULT_USERS if users is None else users, where)


@contextmanager
def _bars() -> Iterator[Callable[[int, int, int], None]]:
    """Two progress bars on a terminal, nothing elsewhere; told the total, what is published and what is delivered."""
    if not sys.stderr.isatty():
        yield lambda total, published, delivered: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        publishing = progress.add_task("published", total=None)
        delivering = progress.add_task("delivered", total=None)

        def show(total: int, published: int, delivered: int) -> None:
            progress.update(publishing, total=total, completed=published)
            progress.update(delivering, total=total, completed=delivered)

        yield show
