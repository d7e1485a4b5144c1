"""The table that is scanned, in short reads: keys by page, rows by key, never a long transaction."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import sqlalchemy as sa
from sqlalchemy.engine import result_tuple
from sqlalchemy.sql.elements import Grouping

from executor.errors import DatabaseUnreachable, UnfitKey, UnknownColumn, UnknownTable
from executor.sharding.cursor import Key
from executor.sharding.scan import Row

Engine = sa.Engine
Table = sa.Table | str
Condition = sa.ColumnElement[bool] | sa.TextClause


class TableSource:
    """A table and its key column; blocking."""

    def __init__(
        self,
        engine: Engine,
        table: Table,
        *,
        key: str,
        where: Condition | None = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        """Raises UnknownTable, UnknownColumn, UnfitKey or DatabaseUnreachable."""
        self._engine = engine
        self.table = self._find(table)
        self.name = self.table.fullname
        self.key = self._column(key)
        if not isinstance(self.key.type, sa.Integer | sa.String | sa.types.NullType):
            raise UnfitKey(what=f"Column {key} of {self.name}, of type {self.key.type},")
        wanted = [self._column(name) for name in columns] if columns else list(self.table.columns)
        page = sa.select(self.key).where(self.key <= _given("upper")).order_by(self.key).limit(_given("limit"))
        self._first_page = page if where is None else page.where(_whole(where))
        self._next_page = self._first_page.where(self.key > _given("after"))
        self._key_at = wanted.index(self.key) if self.key in wanted else None
        read = wanted if self._key_at is not None else [*wanted, self.key]
        self._rows = sa.select(*read).where(self.key.in_(_given("keys", expanding=True))).order_by(self.key)
        self._is_bare = wanted == [self.key]
        self._row = result_tuple([column.key for column in wanted])

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """A connection for one short read; foreign errors become DatabaseUnreachable."""
        with _renamed(self._engine), self._engine.connect() as connection:
            yield connection

    def keys(self, after: Key | None, upper: Key, limit: int) -> list[Key]:
        """At most `limit` keys behind `after` (None: from the first), not beyond `upper`, rising."""
        page = self._first_page if after is None else self._next_page
        given = {"upper": upper, "limit": limit} | ({} if after is None else {"after": after})
        with self.connect() as connection:
            return [cast(Key, row[0]) for row in connection.execute(page, given)]

    def rows(self, keys: Sequence[Key]) -> tuple[Sequence[Row], Sequence[Key]]:
        """The rows with these keys, rising by key, and theirs; one that was deleted meanwhile is not among them."""
        if self._is_bare:
            return [self._row((key,)) for key in keys], keys
        with self.connect() as connection:
            rows = connection.execute(self._rows, {"keys": keys}).all()
        if self._key_at is None:
            return [self._row(row[:-1]) for row in rows], [cast(Key, row[-1]) for row in rows]
        return rows, keys if len(rows) == len(keys) else [cast(Key, row[self._key_at]) for row in rows]

    def is_unique(self, connection: sa.Connection) -> bool:
        """Whether the database itself keeps the key unique."""
        inspector = sa.inspect(connection)
        name, schema = self.table.name, self.table.schema
        whole: list[Sequence[str | None]] = [inspector.get_pk_constraint(name, schema)["constrained_columns"]]
        whole += [constraint["column_names"] for constraint in inspector.get_unique_constraints(name, schema)]
        whole += [
            index["column_names"]
            for index in inspector.get_indexes(name, schema)
            if index["unique"] and not any(option.endswith("_where") for option in index.get("dialect_options", {}))
        ]
        return [self.key.name] in whole

    def _find(self, table: Table) -> sa.Table:
        """A name is looked up; a Table is taken as declared, once the database has one of its name."""
        database = _shown(self._engine)
        with self.connect() as connection:
            if isinstance(table, sa.Table):
                if not sa.inspect(connection).has_table(table.name, schema=table.schema):
                    raise UnknownTable(table=table.fullname, database=database)
                return table
            try:
                return sa.Table(table, sa.MetaData(), autoload_with=connection)
            except sa.exc.NoSuchTableError as error:
                raise UnknownTable(table=table, database=database) from error

    def _column(self, name: str) -> sa.Column[object]:
        if name not in self.table.columns:
            raise UnknownColumn(table=self.name, column=name, known=", ".join(self.table.columns.keys()))
        return self.table.columns[name]


def _whole(condition: Condition) -> sa.ColumnElement[bool]:
    """SQLAlchemy sets no brackets around text: an OR in it would void the bounds of the page."""
    return Grouping(condition) if isinstance(condition, sa.TextClause) else condition


def _given(name: str, *, expanding: bool = False) -> sa.BindParameter[object]:
    return sa.bindparam(name, expanding=expanding)


@contextmanager
def _renamed(engine: Engine) -> Iterator[None]:
    try:
        yield
    except sa.exc.NoSuchTableError:
        raise
    except (sa.exc.SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error)
        raise DatabaseUnreachable(database=_shown(engine), reason=reason) from error


def _shown(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)
