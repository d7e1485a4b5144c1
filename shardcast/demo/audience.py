"""The table that the demo scans: generated, loaded from a CSV, or somebody's own; checked before anything starts."""

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from sqlalchemy import (
    Column,
    ColumnElement,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    func,
    insert,
    select,
    true,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from executor.sharding.filter import condition, parse_filter
from executor.sharding.table.planning import ask, make_plan
from executor.sharding.table.source import TableSource
from protos.errors import ShardcastError, Status

ROWS_A_WRITE = 10_000
GENERATED_TABLE = "users"
ROW_NUMBER = "row_number"


class UnfitInput(ShardcastError):
    """{reason}"""

    code = "unfit_input"
    status = Status.INVALID_ARGUMENT


@dataclass(frozen=True, slots=True)
class Audience:
    """Where the users are. `size` is the number of rows that `where`, a filter as text, finds; None: all."""

    url: str
    table: str
    id_column: str
    size: int
    where: str | None = None

    def ids(self) -> Iterator[str]:
        """All ids as text, in no order, with constant memory."""
        engine = create_engine(self.url)
        table = Table(self.table, MetaData(), autoload_with=engine)
        try:
            with engine.connect().execution_options(stream_results=True, yield_per=ROWS_A_WRITE) as connection:
                ids = select(table.c[self.id_column]).where(_condition(self.where, table))
                for rows in connection.execute(ids).partitions():
                    yield from (str(row[0]) for row in rows)
        finally:
            engine.dispose()


def generated(database: Path, users: int, where: str | None = None) -> Audience:
    """`users` rows with ids 1, 2, ... in a SQLite file; one that is there with as many is used again.

    Raises what `from_database` raises of a filter.
    """
    url = f"sqlite:///{quote(str(database))}"
    engine = create_engine(url)
    table = Table(
        GENERATED_TABLE,
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", Text, nullable=False),
        Column("city", Text, nullable=False),
    )
    if not _holds(engine, table, users):
        cities = ("Shanghai", "Berlin", "Lagos", "Lima")
        rows = ({"id": i, "name": f"user {i}", "city": cities[i % len(cities)]} for i in range(1, users + 1))
        _fill(engine, table, rows)
    engine.dispose()
    return from_database(url, GENERATED_TABLE, "id", where)


def from_csv(database: Path, path: Path, id_column: str | None, where: str | None = None) -> Audience:
    """The file's rows (plain or .gz, first line names the columns) in a SQLite file, every value as text.

    Without an id column the row number, from 1, is the id. Raises UnfitInput, and what `from_database` raises.
    """
    url = f"sqlite:///{quote(str(database))}"
    engine = create_engine(url)
    try:
        with _opened(path) as text:
            reader = csv.reader(text, strict=True)
            names = _header(reader, path, id_column)
            table = _csv_table(names, id_column)
            _fill(engine, table, _csv_rows(reader, names, path, id_column))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnfitInput(reason=f"The CSV file {path} cannot be read: {reason}.") from error
    audience = from_database(url, table.name, id_column or ROW_NUMBER, where)
    if id_column is not None:
        Index("ix_csv_id", table.c[id_column], unique=True).create(engine)
    engine.dispose()
    return audience


def from_database(url: str, table: str, id_column: str, where: str | None = None) -> Audience:
    """A table of any database that SQLAlchemy reaches; id_column must name each row once.

    Raises DatabaseUnreachable, UnknownTable, UnknownColumn, UnfitKey, NullKey, DoubleKey or BadFilter.
    """
    engine = _engine(url)
    try:
        source = TableSource(engine, table, key=id_column)
        matching = _condition(where, source.table)
        make_plan(source, ask(source, total=1))
        with source.connect() as connection:
            size = connection.scalar(select(func.count()).select_from(source.table).where(matching)) or 0
    finally:
        engine.dispose()
    return Audience(url, table, id_column, size, where)


def _condition(where: str | None, table: Table) -> ColumnElement[bool]:
    return true() if where is None else condition(parse_filter(where), table)


def _engine(url: str) -> Engine:
    try:
        engine = create_engine(url)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise UnfitInput(reason=f"The database URL cannot be used: {error}.") from error
    file = engine.url.database
    if engine.dialect.name == "sqlite" and file and not Path(file).is_file():  # SQLite would make it, empty
        raise UnfitInput(reason=f"There is no database file {file}.")
    return engine


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _header(reader: Iterator[list[str]], path: Path, id_column: str | None) -> Sequence[str]:
    names = [name.strip() for name in next(reader, [])]
    if not names or not all(names) or len(set(names)) != len(names):
        raise UnfitInput(reason=f"The first line of {path} must name each column once.")
    if id_column is not None and id_column not in names:
        raise UnfitInput(reason=f"{path} has no column {id_column}; it has {', '.join(names)}.")
    if id_column is None and ROW_NUMBER in names:
        raise UnfitInput(reason=f"{path} has a column {ROW_NUMBER} of its own: name the id column with --id-column.")
    return names


def _csv_table(names: Sequence[str], id_column: str | None) -> Table:
    own = [Column(name, Text, nullable=True) for name in names]
    number = [] if id_column else [Column(ROW_NUMBER, Integer, primary_key=True)]
    return Table("csv", MetaData(), *number, *own)


def _csv_rows(
    reader: Iterable[list[str]], names: Sequence[str], path: Path, id_column: str | None
) -> Iterator[dict[str, object]]:
    for number, values in enumerate(reader, start=1):
        if len(values) != len(names):
            raise UnfitInput(
                reason=f"Row {number} of {path} has {len(values)} values; the first line names {len(names)}."
            )
        row: dict[str, object] = dict(zip(names, values, strict=True))
        if id_column is None:
            row[ROW_NUMBER] = number
        elif not row[id_column]:
            row[id_column] = None  # an empty id is no id
        yield row


def _holds(engine: Engine, table: Table, users: int) -> bool:
    with suppress(SQLAlchemyError), engine.connect() as connection:
        return connection.execute(select(func.count(), func.max(table.c.id))).one() == (users, users)
    return False


def _fill(engine: Engine, table: Table, rows: Iterable[dict[str, object]]) -> None:
    table.metadata.drop_all(engine)
    table.metadata.create_all(engine)
    source = iter(rows)
    with engine.begin() as connection:
        while chunk := list(islice(source, ROWS_A_WRITE)):
            connection.execute(insert(table), chunk)
