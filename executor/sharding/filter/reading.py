"""Reads a filter from text: comparisons of columns with literals, joined by and, or, not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from executor.errors import BadFilter
from executor.sharding.filter.form import KEYWORDS, And, Compare, Filter, IsNull, Like, Not, OneOf, Operator, Or, Value

MAX_CHARACTERS = 64_000
MAX_COMPARISONS = 500  # SQLite takes less than 1,000
MAX_DEPTH = 32  # of brackets and nots
MAX_DIGITS = 30
MAX_SHOWN = 40

_TOKEN = re.compile(
    r"""(?P<number>[+-]?[0-9]+(?:\.[0-9]+)?)(?![\w.])
    | (?P<text>'(?:[^'\x00\ud800-\udfff]|'')*')
    | (?P<quoted>"(?:[^"\x00\ud800-\udfff]|"")+")
    | (?P<word>[^\W\d]\w*)
    | (?P<mark><=|>=|<>|!=|[=<>(),])""",
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*")
_OPERATORS = {**{operator.value: operator for operator in Operator}, "!=": Operator.DIFFERENT}


def parse_filter(text: str) -> Filter:
    """A filter in a small language like SQL's conditions, as plain data.

    For instance `age >= 18 and (city = 'Paris' or city in ('Rome', 'Oslo')) and not blocked and email is not null`.
    A column stands on the left, a literal on the right: a number, a 'text' ('' for a quote in it), true or false.
    Names that are no plain words stand in "double quotes". Raises BadFilter.
    """
    if len(text) > MAX_CHARACTERS:
        raise BadFilter(reason=f"it has {len(text)} characters, the limit is {MAX_CHARACTERS}")
    return _Reader(text).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    """`kind` is the name of its group, or the keyword or mark itself; "" for the end."""

    kind: str
    text: str
    start: int


class _Reader:
    """Goes through the tokens once, one ahead."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = next(self._tokens)
        self._depth = -1  # a comparison alone is none deep
        self._comparisons = 0

    def whole(self) -> Filter:
        found = self._or()
        if self._next.kind:
            raise self._unexpected('"and", "or" or the end')
        return found

    def _or(self) -> Filter:
        parts = [self._and()]
        while self._takes("or"):
            parts.append(self._and())
        return Or(tuple(parts)) if len(parts) > 1 else parts[0]

    def _and(self) -> Filter:
        parts = [self._not()]
        while self._takes("and"):
            parts.append(self._not())
        return And(tuple(parts)) if len(parts) > 1 else parts[0]

    def _not(self) -> Filter:
        start = self._next.start
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _refusal(start, f"brackets and nots are more than {MAX_DEPTH} deep")
        if self._takes("not"):
            found: Filter = Not(self._not())
        elif self._takes("("):
            found = self._or()
            self._take(")", '"and", "or" or ")"')
        else:
            found = self._comparison()
        self._depth -= 1
        return found

    def _comparison(self) -> Filter:
        start, column = self._next.start, self._column()
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise _refusal(start, f"there are more than {MAX_COMPARISONS} comparisons")
        if self._next.kind in _OPERATORS:
            return self._compared(column)
        if self._takes("is"):
            is_negated = self._takes("not")
            self._take("null", '"null"')
            return IsNull(column, is_negated)
        is_negated = self._takes("not")
        if self._takes("in"):
            return OneOf(column, self._values(), is_negated)
        if self._takes("like"):
            return Like(column, self._pattern(), is_negated)
        if is_negated:
            raise self._unexpected('"in" or "like"')
        return Compare(column, Operator.EQUAL, True)

    def _compared(self, column: str) -> Filter:
        operator = _OPERATORS[self._advance().kind]
        start = self._next.start
        value = self._value()
        if isinstance(value, bool) and operator not in (Operator.EQUAL, Operator.DIFFERENT):
            raise _refusal(start, "true and false are neither less nor more than anything")
        return Compare(column, operator, value)

    def _column(self) -> str:
        token = self._next
        if token.kind == "quoted":
            return self._advance().text[1:-1].replace('""', '"')
        if token.kind != "word":
            raise self._unexpected("the name of a column")
        return self._advance().text

    def _values(self) -> tuple[Value, ...]:
        self._take("(", '"("')
        values = [self._value()]
        while self._takes(","):
            values.append(self._value())
        self._take(")", '"," or ")"')
        return tuple(values)

    def _pattern(self) -> str:
        token = self._take("text", "a pattern in 'single quotes'")
        if re.search(r"\\(?![%_\\])", re.sub(r"\\[%_\\]", "", token.text[1:-1])):
            raise _refusal(token.start, r"in a pattern only %, _ and \ follow a backslash")
        return _unquoted(token)

    def _value(self) -> Value:
        token = self._next
        match token.kind:
            case "number":
                return _number(self._advance())
            case "text":
                return _unquoted(self._advance())
            case "true" | "false":
                return self._advance().kind == "true"
            case "null":
                raise _refusal(token.start, "null is equal to nothing: write is null or is not null")
            case _:
                raise self._unexpected("a number, a 'text', true or false")

    def _takes(self, kind: str) -> bool:
        if self._next.kind != kind:
            return False
        self._advance()
        return True

    def _take(self, kind: str, expected: str) -> _Token:
        if self._next.kind != kind:
            raise self._unexpected(expected)
        return self._advance()

    def _advance(self) -> _Token:
        token, self._next = self._next, next(self._tokens)
        return token

    def _unexpected(self, what: str) -> BadFilter:
        token = self._next
        shown = token.text if len(token.text) <= MAX_SHOWN else f"{token.text[:MAX_SHOWN]}..."
        return _refusal(token.start, f"{what} is expected, not {shown or 'its end'}")


def _tokens(text: str) -> Iterator[_Token]:
    position = _behind_space(text, 0)
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise _refusal(position, _unreadable(text[position]))
        kind = found.lastgroup or ""
        if kind == "mark" or (kind == "word" and found[0].lower() in KEYWORDS):
            kind = found[0].lower()
        yield _Token(kind, found[0], position)
        position = _behind_space(text, found.end())
    yield _Token("", "", len(text))
    raise AssertionError("nothing is read behind the end")


def _behind_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _unreadable(character: str) -> str:
    match character:
        case "'" | '"':
            return f"what begins with {character} does not end, or holds a NUL"
        case _ if character.isdigit() or character in "+-":
            return "that is no number: write it like 18 or -0.5"
    return f"{character!r} means nothing here"


def _number(token: _Token) -> int | Decimal:
    if sum(character.isdigit() for character in token.text) > MAX_DIGITS:
        raise _refusal(token.start, f"a number has at most {MAX_DIGITS} digits")
    if "." in token.text:
        return Decimal(token.text)
    number = int(token.text)
    if not -(2**63) <= number < 2**63:
        raise _refusal(token.start, "a whole number lies between -2^63 and 2^63")
    return number


def _unquoted(token: _Token) -> str:
    return token.text[1:-1].replace("''", "'")


def _refusal(start: int, reason: str) -> BadFilter:
    return BadFilter(reason=f"at character {start + 1}, {reason}")
