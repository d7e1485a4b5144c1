"""The table that is scanned: its key, its columns, and connections for short reads."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.sql.elements import Grouping

from executor.errors import BadFilter, DatabaseUnreachable, NoKey, UnfitKey, UnknownColumn, UnknownTable
from executor.sharding.filter import condition, parse_filter
from executor.sharding.keys import Key, key_of
from executor.sharding.table.keyset import Keyset
from protos.errors import InvalidArgument

Engine = sa.Engine
Table = sa.Table | str
Condition = sa.ColumnElement[bool] | sa.TextClause | str
"""Of SQLAlchemy, or a text as docs/scans.md has it."""
KeyNames = str | Sequence[str] | None

MAX_FILTER_CHARACTERS = 1_000  # of a filter told in a plan; of a longer one the beginning and a digest

_KEY_TYPES = (sa.Integer, sa.String, sa.Uuid, sa.LargeBinary, sa.BINARY, sa.VARBINARY, sa.types.NullType)


class TableSource:
    """A table, the columns of its key, and which of its rows are wanted; blocking."""

    def __init__(
        self,
        engine: Engine,
        table: Table,
        *,
        key: KeyNames = None,
        where: Condition | None = None,
        columns: Sequence[str] | None = None,
        replica: Engine | None = None,
    ) -> None:
        """`key` None is the table's primary key; pages are read from `replica`, if there is one.

        Raises UnknownTable, UnknownColumn, NoKey, UnfitKey, BadFilter, DatabaseUnreachable or InvalidArgument.
        """
        _check_engines(engine, *([] if replica is None else [replica]))
        self._engine = engine
        self.replica = replica
        self._held: sa.Connection | None = None
        self.table = self._find(table)
        self.name = self.table.fullname
        self.key = self._key(key)
        self.keyset = Keyset(self.key, has_row_values=engine.dialect.name in ("sqlite", "postgresql"))
        self.where = self._condition(where)
        self.wanted = list(map(self.column, _listed(columns))) if columns else list(self.table.columns)

    @property
    def dialect(self) -> sa.Dialect:
        """Of the table's database; it knows its server's version by now."""
        return self._engine.dialect

    @property
    def key_names(self) -> list[str]:
        return [column.name for column in self.key]

    @property
    def filter_text(self) -> str:
        """The filter as the database is given it, with its values; "" for none. The same in every process."""
        if self.where is None:
            return ""
        compiled = self.where.compile(dialect=self.dialect)
        params = {name: _in_order(value) for name, value in sorted(compiled.params.items())}
        values = f" with {params}" if params else ""
        text = " ".join(str(compiled).split()) + values
        if len(text) <= MAX_FILTER_CHARACTERS:
            return text
        return f"{text[:MAX_FILTER_CHARACTERS]}... sha256 {sha256(text.encode(errors='replace')).hexdigest()}"

    @property
    def database(self) -> str:
        """The one that pages are read from, without its password."""
        return _shown(self._engine if self.replica is None else self.replica)

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """A connection to the table's own database for one short read.

        Foreign errors become DatabaseUnreachable, or UnknownTable where the table has gone.
        """
        with self._renamed(self._engine), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """As `connect`, to the replica, where there is one."""
        engine = self._engine if self.replica is None else self.replica
        with self._renamed(engine):
            if self._held is not None:
                yield self._held
                return
            with engine.connect() as connection:
                yield connection

    @contextmanager
    def holding(self) -> Iterator[None]:
        """What is read within goes over one connection, each question still a transaction of its own: to a server that
        is twice as fast where they are many and small."""
        with self.reading() as connection:
            self._held = connection.execution_options(isolation_level="AUTOCOMMIT")
            try:
                yield
            finally:
                self._held = None

    def greatest(self, upper: Key) -> Key | None:
        """The greatest key up to this one that the table's own database has now; None: there is none."""
        falling = map(sa.desc, self.key)
        asked = sa.select(*self.key).where(self.keyset.not_beyond("upper")).order_by(*falling).limit(1)
        with self.connect() as connection:
            last = connection.execute(asked, self.keyset.given("upper", upper)).first()
        return None if last is None else key_of(last)

    def shows(self, key: Key) -> bool:
        """Whether the replica has come as far as this key."""
        asked = sa.select(sa.exists().select_from(self.table).where(self.keyset.not_before("key")))
        with self.reading() as connection:
            return bool(connection.execute(asked, self.keyset.given("key", key)).scalar_one())

    def column(self, name: str) -> sa.Column[object]:
        """Raises UnknownColumn."""
        if name not in self.table.columns:
            raise UnknownColumn(table=self.name, column=name, known=", ".join(self.table.columns.keys()))
        return self.table.columns[name]

    def nullable(self, connection: sa.Connection) -> Collection[str]:
        """The columns that the database lets hold NULL, however the table was declared."""
        columns = sa.inspect(connection).get_columns(self.table.name, self.table.schema)
        return {column["name"] for column in columns if column["nullable"]}

    def is_unique(self, connection: sa.Connection) -> bool:
        """Whether the database itself keeps the key unique: it, or a part of it."""
        inspector = sa.inspect(connection)
        name, schema = self.table.name, self.table.schema
        whole: list[Sequence[str | None]] = [inspector.get_pk_constraint(name, schema)["constrained_columns"]]
        whole += [constraint["column_names"] for constraint in inspector.get_unique_constraints(name, schema)]
        whole += [
            index["column_names"]
            for index in inspector.get_indexes(name, schema)
            if index["unique"] and not any(option.endswith("_where") for option in index.get("dialect_options", {}))
        ]
        return any(names and set(names) <= set(self.key_names) for names in whole)

    def _find(self, table: Table) -> sa.Table:
        """A name is looked up; a Table is taken as declared, once the database has one of its name."""
        database = _shown(self._engine)
        with _renamed(self._engine), self._engine.connect() as connection:
            if isinstance(table, sa.Table):
                if not sa.inspect(connection).has_table(table.name, schema=table.schema):
                    raise UnknownTable(table=table.fullname, database=database)
                return table
            if not isinstance(table, str):
                raise InvalidArgument(reason=f"a scan takes a table's name or a sqlalchemy.Table, not {table!r:.80}")
            try:
                return sa.Table(table, sa.MetaData(), autoload_with=connection, resolve_fks=False)
            except sa.exc.NoSuchTableError as error:
                raise UnknownTable(table=table, database=database) from error

    def _key(self, names: KeyNames) -> list[sa.Column[object]]:
        asked = self.table.primary_key.columns.keys() if names is None else _listed(names)
        columns = [self.column(name) for name in asked]
        if not columns:
            raise NoKey(table=self.name)
        for column in columns:
            if not isinstance(column.type, _KEY_TYPES) or isinstance(column.type, sa.Enum):
                raise UnfitKey(what=f"Column {column.name} of {self.name}, of type {column.type},")
        return columns

    def _condition(self, where: Condition | None) -> sa.ColumnElement[bool] | None:
        match where:
            case str():
                return condition(parse_filter(where), self.table)
            case sa.TextClause():
                return Grouping(where)  # SQLAlchemy sets no brackets around text: an OR would void the page's bounds
            case sa.ColumnElement():
                return self._about_this_table(where)
            case None:
                return None
        raise BadFilter(reason=f"it is a text or a condition of SQLAlchemy, not {where!r:.80}")

    def _about_this_table(self, where: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        """Another table beside this one would be joined, and a row come once for each of its matches."""
        tables = sa.select(sa.literal(1)).select_from(self.table).where(where).get_final_froms()
        if foreign := [str(each) for each in tables if each is not self.table]:
            reason = f"it names columns of {', '.join(foreign)} that are not the scan's: use exists() or in_()"
            raise BadFilter(reason=reason)
        return where

    @contextmanager
    def _renamed(self, engine: Engine) -> Iterator[None]:
        try:
            with _renamed(engine):
                yield
        except DatabaseUnreachable as error:
            if _has_lost(engine, self.table):
                raise UnknownTable(table=self.name, database=_shown(engine)) from error
            raise


def _listed(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


def _in_order(value: object) -> object:
    """A list as `in_` makes it of a set, whose order is of chance."""
    return sorted(value, key=repr) if isinstance(value, list) else value


def _check_engines(*engines: object) -> None:
    for engine in engines:
        if not isinstance(engine, sa.Engine):
            raise InvalidArgument(
                reason=f"a scan reads by an Engine of SQLAlchemy, one that blocks, not {engine!r:.80}"
            )


def _has_lost(engine: Engine, table: sa.Table) -> bool:
    """Whether the database answers, and has no such table."""
    try:
        with engine.connect() as connection:
            return not sa.inspect(connection).has_table(table.name, schema=table.schema)
    except (sa.exc.SQLAlchemyError, OSError):
        return False


@contextmanager
def _renamed(engine: Engine) -> Iterator[None]:
    try:
        yield
    except sa.exc.NoSuchTableError:
        raise
    except (sa.exc.SQLAlchemyError, OSError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise DatabaseUnreachable(database=_shown(engine), reason=reason) from error


def _shown(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)
