"""Filters as text: what they mean, what is refused, and how that is told."""

import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
import sqlalchemy as sa

from executor.errors import BadFilter, UnknownColumn
from executor.sharding.filter import condition, parse_filter, render
from executor.sharding.filter.form import And, Compare, Filter, IsNull, Like, Not, OneOf, Operator, Or
from executor.sharding.filter.reading import MAX_CHARACTERS, MAX_COMPARISONS, MAX_DEPTH

TABLE = sa.Table(
    "people",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("age", sa.SmallInteger),
    sa.Column("price", sa.Numeric(10, 2)),
    sa.Column("name", sa.String(20)),
    sa.Column("blocked", sa.Boolean),
    sa.Column("born", sa.Date),
    sa.Column("wakes", sa.Time),
    sa.Column("seen", sa.DateTime),
    sa.Column("made_at", sa.DateTime(timezone=True)),
    sa.Column("uid", sa.Uuid),
    sa.Column("kind", sa.Enum("big", "small")),
    sa.Column("photo", sa.LargeBinary),
)


def bound(text: str) -> list[object]:
    """The values that the condition binds."""
    params = condition(parse_filter(text), TABLE).compile().params.values()
    return [value for each in params for value in (each if isinstance(each, list) else [each])]


def test_a_filter_is_read_with_the_precedence_of_sql() -> None:
    text = "age >= 18 AND (city = 'Paris' or city in ('Rome', 'Oslo')) and not blocked and email is not null"
    adult = Compare("age", Operator.AT_LEAST, 18)
    there = Or((Compare("city", Operator.EQUAL, "Paris"), OneOf("city", ("Rome", "Oslo"))))
    free, reachable = Not(Compare("blocked", Operator.EQUAL, True)), IsNull("email", is_negated=True)
    assert parse_filter(text) == And((adult, there, free, reachable))
    either = Or((Compare("a", Operator.EQUAL, 1), And((Compare("b", Operator.EQUAL, 2), Not(Like("c", "A%"))))))
    assert parse_filter("a = 1 or b = 2 and not c like 'A%'") == either


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("a!=-0.50", Compare("a", Operator.DIFFERENT, Decimal("-0.50"))),
        ("a <> +7", Compare("a", Operator.DIFFERENT, 7)),
        ("a = 'it''s'", Compare("a", Operator.EQUAL, "it's")),
        ('"user ""id""" = 1', Compare('user "id"', Operator.EQUAL, 1)),
        ('"in" not in (1,true)', OneOf("in", (1, True), is_negated=True)),
        ("Größe like '100\\%_'", Like("Größe", "100\\%_")),
        ("a Is Null", IsNull("a")),
        ("a = False", Compare("a", Operator.EQUAL, False)),
    ],
)
def test_names_and_literals_are_taken_as_they_are(text: str, parsed: Filter) -> None:
    assert parse_filter(text) == parsed
    assert parse_filter(render(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 1, "name of a column is expected, not its end"),
        ("age >=", 7, "a number, a 'text', true or false is expected, not its end"),
        ("age >= 18 and", 14, "name of a column"),
        ("age >= 18 18", 11, '"and", "or" or the end is expected, not 18'),
        ("(age >= 18", 11, '")" is expected'),
        ("18 <= age", 1, "name of a column is expected, not 18"),
        ("age = weight", 7, "is expected, not weight"),
        ("age = null", 7, "write is null"),
        ("age in (1, null)", 12, "write is null"),
        ("age in ()", 9, "is expected, not )"),
        ("age in 1", 8, '"("'),
        ("age not 1", 9, '"in" or "like"'),
        ("age is 1", 8, '"null"'),
        ("name like 5", 11, "a pattern"),
        ("name like 'a\\b'", 11, "follow a backslash"),
        ("name like 'a\\'", 11, "follow a backslash"),
        ("a < true", 5, "neither less nor more"),
        ("a = 1; drop table a", 6, "';' means nothing here"),
        ("a = 1 -- b", 7, "no number"),
        ("a = 1e5", 5, "no number"),
        ("a = 'x", 5, "does not end"),
        ("a = 'x\0'", 5, "NUL"),
        ("a = lower('x')", 5, "not lower"),
        (f"a = {2**63}", 5, "between -2^63 and 2^63"),
        ("a = " + "1" * 31, 5, "at most 30 digits"),
        ("x" * 100 + " y", 102, "not y"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text: str, position: int, words: str) -> None:
    with pytest.raises(BadFilter) as caught:
        parse_filter(text)
    assert f"at character {position}, " in str(caught.value)
    assert words in str(caught.value)


def test_depth_length_and_number_are_bounded() -> None:
    assert parse_filter("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH) == parse_filter("a")
    with pytest.raises(BadFilter, match=f"more than {MAX_DEPTH} deep"):
        parse_filter("(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1))
    with pytest.raises(BadFilter, match=f"more than {MAX_COMPARISONS} comparisons"):
        parse_filter(" or ".join("a" * (MAX_COMPARISONS + 1)))
    with pytest.raises(BadFilter, match=f"the limit is {MAX_CHARACTERS}"):
        parse_filter("a" + " " * MAX_CHARACTERS)


@pytest.mark.parametrize("joined", [" or ", " and "])
def test_the_longest_filter_is_one_that_sqlite_takes(joined: str) -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        TABLE.create(connection)
        where = condition(parse_filter(joined.join(["not age in (1)"] * MAX_COMPARISONS)), TABLE)
        many = condition(parse_filter(f"age in ({','.join('1' * 31_000)})"), TABLE)
        assert connection.execute(sa.select(TABLE.c.id).where(where, many)).all() == []
    engine.dispose()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("age >= 4000000000", [4_000_000_000]),
        ("price in (1, 2.5)", [1, Decimal("2.5")]),
        ("id = true", [1]),
        ("not blocked", [True]),
        ("name <> 'x'' or 1=1'", ["x' or 1=1"]),
        ("born > '2026-02-28'", [date(2026, 2, 28)]),
        ("wakes < '07:30'", [time(7, 30)]),
        ("seen < '2026-01-01'", [datetime(2026, 1, 1)]),  # noqa: DTZ001 - a wall time, as the column keeps it
        ("seen < '2026-01-01T09:30'", [datetime(2026, 1, 1, 9, 30)]),  # noqa: DTZ001
        ("made_at < '2026-01-01'", [datetime(2026, 1, 1, tzinfo=UTC)]),
        ("made_at < '2026-01-01T08:00+08:00'", [datetime(2026, 1, 1, tzinfo=UTC)]),
        ("uid = '5E274E7A-0c38-09e1-4aba-7ad5aae0d407'", [uuid.UUID("5e274e7a0c3809e14aba7ad5aae0d407")]),
        ("kind = 'big'", ["big"]),
        ("photo is null", []),
    ],
)
def test_values_are_bound_as_what_their_column_holds(text: str, values: list[object]) -> None:
    assert bound(text) == values


def test_no_value_stands_in_the_statement() -> None:
    text = "name = 'SECRET' or name like 'SECRET%' or name in ('SECRET') or age = 987654 or price < 98.76"
    statement = str(condition(parse_filter(text), TABLE))
    assert "SECRET" not in statement
    assert "98" not in statement


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("age >= 'x'", "column age is SMALLINT and cannot be compared with 'x'"),
        ("name = 5", "column name is VARCHAR(20) and cannot be compared with 5"),
        ("name", "cannot be compared with true"),
        ("price = false", "cannot be compared with false"),
        ("blocked = 1", "column blocked is BOOLEAN and cannot be compared with 1"),
        ("born = '2026-02-30'", "column born is DATE and cannot be compared with '2026-02-30'"),
        ("seen < '2026-01-01T00:00Z'", "leave it out"),
        ("uid = 'x'", "cannot be compared with 'x'"),
        ("kind = 'huge'", "one of big, small, never 'huge'"),
        ("kind like 'b%'", "like is for texts"),
        ("age like '1%'", "like is for texts"),
        ("photo = 'x'", "column photo is BLOB"),
    ],
)
def test_values_that_do_not_fit_their_column_are_refused(text: str, words: str) -> None:
    with pytest.raises(BadFilter) as caught:
        condition(parse_filter(text), TABLE)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text", ["city = 'Rome'", "city is null", "not (city in ('Rome'))", "city like 'R%'", "Age > 1"]
)
def test_a_column_that_is_not_there_is_told_with_those_that_are(text: str) -> None:
    with pytest.raises(UnknownColumn, match="it has id, age"):
        condition(parse_filter(text), TABLE)
