"""Filters as text: read back as written, true for the rows that a plain evaluator finds, and harmless as noise."""

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from executor.errors import BadFilter
from executor.sharding.filter import Filter, condition, parse_filter, render
from executor.sharding.filter.form import And, Compare, IsNull, Like, Not, OneOf, Operator, Or, Value

Row = Mapping[str, object]

TABLE = sa.Table(
    "people",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("age", sa.Integer),
    sa.Column("weight", sa.Float),
    sa.Column("my name", sa.Text),
    sa.Column("in", sa.Boolean),
)
LETTERS = "aAbB'%_\\é \""
COMPARES = {
    Operator.EQUAL: operator.eq,
    Operator.DIFFERENT: operator.ne,
    Operator.LESS: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.GREATER: operator.gt,
    Operator.AT_LEAST: operator.ge,
}

ages = st.integers(-3, 3)
weights = st.decimals(-3, 3, places=1)
numbers = st.one_of(ages, weights)
names = st.text(LETTERS, max_size=3)
patterns = st.lists(st.sampled_from(["a", "B", "é", "'", "%", "_", "\\%", "\\_", "\\\\"]), max_size=4).map("".join)
rows = st.fixed_dictionaries(
    {
        "age": st.none() | ages,
        "weight": st.none() | weights.map(float),
        "my name": st.none() | names,
        "in": st.none() | st.booleans(),
    }
)
comparisons: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Compare, st.sampled_from(["age", "weight"]), st.sampled_from(Operator), numbers),
    st.builds(Compare, st.just("my name"), st.sampled_from(Operator), names),
    st.builds(Compare, st.just("in"), st.sampled_from([Operator.EQUAL, Operator.DIFFERENT]), st.booleans()),
    st.builds(
        OneOf, st.sampled_from(["age", "weight"]), st.lists(numbers, min_size=1, max_size=3).map(tuple), st.booleans()
    ),
    st.builds(OneOf, st.just("my name"), st.lists(names, min_size=1, max_size=3).map(tuple), st.booleans()),
    st.builds(Like, st.just("my name"), patterns, st.booleans()),
    st.builds(IsNull, st.sampled_from(["age", "weight", "my name", "in"]), st.booleans()),
)
filters = st.recursive(
    comparisons,
    lambda parts: st.one_of(
        st.builds(Not, parts),
        st.builds(And, st.lists(parts, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(parts, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def connection() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        TABLE.create(connection)
        yield connection
    engine.dispose()


def holds(parsed: Filter, row: Row) -> bool | None:
    """SQL's logic of three values, as SQLite has it; None is NULL."""
    match parsed:
        case And(parts):
            return _all([holds(part, row) for part in parts])
        case Or(parts):
            return _not(_all([_not(holds(part, row)) for part in parts]))
        case Not(part):
            return _not(holds(part, row))
        case IsNull(column, is_negated):
            return (row[column] is None) is not is_negated
        case Compare(column, compared, value):
            return None if row[column] is None else bool(COMPARES[compared](row[column], _stored(value)))
        case OneOf(column, values, is_negated):
            return None if row[column] is None else (row[column] in map(_stored, values)) is not is_negated
        case Like(column, pattern, is_negated):
            return None if row[column] is None else _is_like(str(row[column]), pattern) is not is_negated


def _all(values: Sequence[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _stored(value: Value) -> object:
    return float(value) if isinstance(value, Decimal) else value


def _is_like(text: str, pattern: str) -> bool:
    parts = re.findall(r"\\.|[^\\]", pattern)
    wild = {"%": ".*", "_": "."}
    regex = "".join(wild.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(regex, text, re.DOTALL | re.IGNORECASE | re.ASCII) is not None


@settings(deadline=None)
@given(filters)
def test_a_filter_is_read_back_from_the_text_that_it_is_written_as(parsed: Filter) -> None:
    text = render(parsed)
    again = parse_filter(text)
    assert (again, render(again)) == (parsed, text)
    assert parse_filter(f"\n( {text})\t") == parsed, "brackets and blanks around it mean nothing"


@settings(max_examples=300, deadline=None)
@given(filters, st.lists(rows, min_size=1, max_size=6))
def test_a_filter_finds_the_rows_that_a_plain_evaluator_finds(
    connection: sa.Connection, parsed: Filter, people: Sequence[Row]
) -> None:
    connection.execute(TABLE.delete())
    connection.execute(TABLE.insert(), [{"id": number, **row} for number, row in enumerate(people)])
    where = condition(parse_filter(render(parsed)), TABLE)
    found = connection.execute(sa.select(TABLE.c.id).where(where)).scalars().all()
    assert sorted(found) == [number for number, row in enumerate(people) if holds(parsed, row) is True]


words = st.sampled_from(
    [
        *(
            "age",
            '"my name"',
            "and",
            "or",
            "not",
            "in",
            "is",
            "null",
            "like",
            "true",
            "(",
            ")",
            ",",
            "=",
            "<",
            "!=",
            "18",
        ),
        *("-0.5", "'x'", "''", "'", '"', "--", ";", "%", "\\", "1e5", "\0", "\ud800", "٣", "é"),
    ]
)


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(), st.lists(words).map(" ".join), st.lists(words).map("".join)))
@example("(" * 5_000)
@example("not " * 5_000 + "age")
@example("age" + " or age" * 5_000)
@example("9" * 5_000)
@example("age = " + "9" * 5_000)
@example("'" * 4_999)
def test_any_text_is_a_filter_or_a_bad_one(text: str) -> None:
    error = None
    try:
        parsed = parse_filter(text)
    except BadFilter as caught:
        error = str(caught)
    if error is None:
        assert parse_filter(render(parsed)) == parsed
    else:
        assert re.search(r"at character \d+, |the limit is", error)
        assert len(error) < 300, "long input is not repeated"
