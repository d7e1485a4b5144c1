"""A filter as a condition of SQLAlchemy: its values are bound, never part of the statement's text."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.sql import operators
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import NullType, TypeEngine

from executor.errors import BadFilter, UnknownColumn
from executor.sharding.filter.form import And, Compare, Filter, IsNull, Like, Not, OneOf, Operator, Or, Value

Kind = TypeEngine[object] | sa.Boolean | sa.BigInteger | sa.Numeric[Decimal]

_OPERATORS: Mapping[Operator, OperatorType] = {
    Operator.EQUAL: operators.eq,
    Operator.DIFFERENT: operators.ne,
    Operator.LESS: operators.lt,
    Operator.AT_MOST: operators.le,
    Operator.GREATER: operators.gt,
    Operator.AT_LEAST: operators.ge,
}


def condition(parsed: Filter, table: sa.Table) -> sa.ColumnElement[bool]:
    """The filter over the columns of a table; what NULL does in it is the database's matter.

    Texts become dates and UUIDs where the column holds such. Raises UnknownColumn, and BadFilter for a value that does
    not fit its column.
    """
    match parsed:
        case And(parts):
            return sa.and_(*(condition(part, table) for part in parts))
        case Or(parts):
            return sa.or_(*(condition(part, table) for part in parts))
        case Not(part):
            return sa.not_(condition(part, table))
        case Compare(name, compared, value):
            column = _column(table, name)
            return column.operate(_OPERATORS[compared], sa.literal(*_fitted(column, value)))
        case OneOf(name, values, is_negated):
            found = _one_of(_column(table, name), values)
            return sa.not_(found) if is_negated else found
        case Like(name, pattern, is_negated):
            column = _column(table, name)
            if isinstance(column.type, sa.Enum) or not isinstance(column.type, sa.String | NullType):
                raise BadFilter(reason=f"column {name} is {column.type}, and like is for texts")
            bound_pattern = sa.literal(pattern, sa.String())
            like = column.not_like if is_negated else column.like
            return like(bound_pattern, escape="\\")
        case IsNull(name, is_negated):
            column = _column(table, name)
            return column.is_not(None) if is_negated else column.is_(None)


def _column(table: sa.Table, name: str) -> sa.Column[object]:
    if name not in table.columns:
        raise UnknownColumn(table=table.fullname, column=name, known=", ".join(table.columns.keys()))
    return table.columns[name]


def _one_of(column: sa.Column[object], values: Sequence[Value]) -> sa.ColumnElement[bool]:
    """One list for each type of value: a list is one parameter, however long it is."""
    lists: dict[type[Value], list[object]] = {}
    kinds: dict[type[Value], Kind] = {}
    for value in values:
        fitted, kinds[type(value)] = _fitted(column, value)
        lists.setdefault(type(value), []).append(fitted)
    bound = [sa.bindparam(None, each, kinds[kind], expanding=True, unique=True) for kind, each in lists.items()]
    return sa.or_(*(column.in_(each) for each in bound))


def _fitted(column: sa.Column[object], value: Value) -> tuple[object, Kind]:
    """The value and the type under which it is bound."""
    kind: TypeEngine[object] = column.type
    match value:
        case bool() if isinstance(kind, sa.Boolean | NullType):
            return value, sa.Boolean()
        case int() if isinstance(kind, sa.Integer) or (_is_number(kind) and not isinstance(value, bool)):
            return int(value), sa.BigInteger()  # whatever the column holds: the value may be larger
        case Decimal() if isinstance(kind, sa.Integer) or _is_number(kind):
            return value, sa.Numeric()
        case str():
            return _converted(column, value), kind
    raise _unfit(column, value)


def _is_number(kind: TypeEngine[object]) -> bool:
    return isinstance(kind, sa.Numeric | sa.Float | NullType)


def _converted(column: sa.Column[object], text: str) -> object:
    """The text as what the column holds."""
    kind = column.type
    try:
        match kind:
            case sa.Enum():
                if text not in kind.enums:
                    raise BadFilter(reason=f"column {column.name} is one of {', '.join(kind.enums)}, never {text!r}")
                return text
            case sa.String() | NullType():
                return text
            case sa.DateTime():
                return _instant(column, kind, text)
            case sa.Date():
                return date.fromisoformat(text)
            case sa.Time():
                return time.fromisoformat(text)
            case sa.Uuid():
                return uuid.UUID(text) if kind.as_uuid else str(uuid.UUID(text))
    except ValueError as error:
        raise _unfit(column, text) from error
    raise _unfit(column, text)


def _instant(column: sa.Column[object], kind: sa.DateTime, text: str) -> datetime:
    """Without an offset it is UTC where the column keeps instants, and a wall time where it does not."""
    instant = datetime.fromisoformat(text)
    if kind.timezone and instant.tzinfo is None:
        return instant.replace(tzinfo=UTC)
    if not kind.timezone and instant.tzinfo is not None:
        raise BadFilter(
            reason=f"column {column.name} is {kind}, which has no offset from UTC: leave it out of {text!r}"
        )
    return instant


def _unfit(column: sa.Column[object], value: Value) -> BadFilter:
    shown = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else value
    return BadFilter(reason=f"column {column.name} is {column.type} and cannot be compared with {shown}")
