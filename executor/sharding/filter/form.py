"""A filter as data, and as the text that it is read from."""

import enum
import re
from dataclasses import dataclass
from decimal import Decimal

KEYWORDS = frozenset({"and", "or", "not", "in", "is", "null", "like", "true", "false"})

Value = int | Decimal | str | bool


class Operator(enum.StrEnum):
    """How a column is compared with a value."""

    EQUAL = "="
    DIFFERENT = "<>"
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="


@dataclass(frozen=True, slots=True)
class Compare:
    """A column alone, as in `not blocked`, is compared with true."""

    column: str
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class OneOf:
    column: str
    values: tuple[Value, ...]
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Like:
    """`%` stands for any text, `_` for any character; behind a backslash they stand for themselves."""

    column: str
    pattern: str
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class IsNull:
    column: str
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    part: "Filter"


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple["Filter", ...]


Filter = Compare | OneOf | Like | IsNull | Not | And | Or


def render(parsed: Filter) -> str:
    """The text that the filter is read from, in one spelling whatever the user's was."""
    match parsed:
        case Compare(column, Operator.EQUAL, True):
            return _name(column)
        case Compare(column, operator, value):
            return f"{_name(column)} {operator} {_literal(value)}"
        case OneOf(column, values, is_negated):
            return f"{_name(column)} {'not ' * is_negated}in ({', '.join(map(_literal, values))})"
        case Like(column, pattern, is_negated):
            return f"{_name(column)} {'not ' * is_negated}like {_literal(pattern)}"
        case IsNull(column, is_negated):
            return f"{_name(column)} is {'not ' * is_negated}null"
        case Not(part):
            return f"not {_in_brackets(part, And, Or)}"
        case And(parts):
            return " and ".join(_in_brackets(part, And, Or) for part in parts)
        case Or(parts):
            return " or ".join(_in_brackets(part, Or) for part in parts)


def _in_brackets(part: Filter, *where: type[And | Or]) -> str:
    return f"({render(part)})" if isinstance(part, where) else render(part)


def _name(column: str) -> str:
    is_plain = re.fullmatch(r"[^\W\d]\w*", column) and column.lower() not in KEYWORDS
    return column if is_plain else '"' + column.replace('"', '""') + '"'


def _literal(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal():
            return format(value, "f")
        case str():
            return "'" + value.replace("'", "''") + "'"
