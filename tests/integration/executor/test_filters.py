"""Filters as text on real databases, over tables that are looked up."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from executor.running.context import Context
from executor.sharding.filter import condition, parse_filter
from executor.testing import run_local

DECLARED = sa.Table(
    "people",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("age", sa.SmallInteger),
    sa.Column("price", sa.Numeric(10, 2)),
    sa.Column("weight", sa.Double),
    sa.Column("name", sa.String(20)),
    sa.Column("blocked", sa.Boolean),
    sa.Column("born", sa.Date),
    sa.Column("seen", sa.DateTime),
    sa.Column("kind", sa.Enum("big", "small", name="kind")),
    sa.Column("full name", sa.Text),
)
PEOPLE = [
    (1, 17, Decimal("0.10"), 0.5, "Ann", False, date(2009, 1, 1), datetime(2026, 1, 1), "big", "x"),  # noqa: DTZ001
    (2, 18, Decimal("0.20"), 1.5, "Bob", True, date(2008, 1, 1), datetime(2026, 1, 2), "small", "100%"),  # noqa: DTZ001
    (3, 40, Decimal("3.00"), 2.5, "O'Ne", False, date(1986, 1, 1), datetime(2026, 1, 3), "big", "100s"),  # noqa: DTZ001
    (4, None, None, None, None, None, None, None, None, None),
]


@pytest.fixture
def engine(admin_database_url: str) -> sa.Engine:
    engine = sa.create_engine(admin_database_url)
    DECLARED.create(engine)
    names = [column.name for column in DECLARED.columns]
    with engine.begin() as connection:
        connection.execute(DECLARED.insert(), [dict(zip(names, person, strict=True)) for person in PEOPLE])
    return engine


FOUND = [
    ("age >= 18", {2, 3}),
    ("not age >= 18", {1}),
    ("age < 5000000000 and age > -1.5", {1, 2, 3}),
    ("age in (17, 40.0, 5000000000)", {1, 3}),
    ("age not in (17)", {2, 3}),
    ("price = 0.1 or price >= 3", {1, 3}),
    ("weight <= 1.5", {1, 2}),
    ("name = 'O''Ne' or name like 'A%'", {1, 3}),
    ("name not like '%n%' and name <> 'O''Ne'", {2}),
    ("\"full name\" like '100\\%'", {2}),
    ("blocked", {2}),
    ("not blocked", {1, 3}),
    ("blocked is null", {4}),
    ("born >= '2008-01-01'", {1, 2}),
    ("seen > '2026-01-01' and seen <= '2026-01-03'", {2, 3}),
    ("kind = 'big' and kind in ('big', 'small')", {1, 3}),
    ("(age = 17 or name = 'Bob') and not (name is null or blocked)", {1}),
]


def test_a_filter_finds_the_same_rows_on_every_database(engine: sa.Engine) -> None:
    for table in (DECLARED, sa.Table("people", sa.MetaData(), autoload_with=engine)):
        with engine.connect() as connection:
            for text, ids in FOUND:
                query = sa.select(table.c.id).where(condition(parse_filter(text), table))
                assert set(connection.execute(query).scalars()) == ids, text
    engine.dispose()


def test_a_column_that_keeps_instants_takes_them_in_any_zone(postgresql_url: str) -> None:
    engine = sa.create_engine(postgresql_url)
    declared = sa.Table("t", sa.MetaData(), sa.Column("at", sa.DateTime(timezone=True)))
    declared.create(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("SET TIME ZONE 'Asia/Tokyo'")
        connection.execute(declared.insert(), [{"at": datetime(2026, 1, 1, tzinfo=UTC)}])
        table = sa.Table("t", sa.MetaData(), autoload_with=connection)
        for text in ("at = '2026-01-01'", "at = '2026-01-01T08:00+08:00'", "at > '2025-12-31T23:59:59Z'"):
            query = sa.select(table).where(condition(parse_filter(text), table))
            assert len(connection.execute(query).all()) == 1, text
    engine.dispose()


def test_the_shards_of_a_filtered_scan_read_each_row_that_matches_once(engine: sa.Engine) -> None:
    table = sa.Table("people", sa.MetaData(), autoload_with=engine)
    where = condition(parse_filter("age >= 18 or age is null"), table)

    def read(context: Context) -> list[int]:
        return [row.id for rows in context.scan(engine, table, where=where) for row in rows]

    found: list[int] = []
    for index in range(2):
        found += run_local(read, shard=(index, 2)).result  # type: ignore[operator]
    assert sorted(found) == [2, 3, 4]
    engine.dispose()
