"""Gathers the messages that rows lead to into units: each is published in one step, under its last row's cursor."""

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from typing import cast

from broker.client.convert import MAX_PUBLISH_BYTES
from broker.client.message import Message
from broker.client.weight import weigh, weigh_plain
from broker.errors import BadRequest, TooLarge, TooMany
from broker.model import PUBLISH_MESSAGES
from executor.errors import Cancelled, Fail, Retry, RowFailed, Skip, line_of, message_of
from executor.sharding.cursor import Cursor
from executor.sharding.scan import Rows
from executor.sharding.table.questions import Row
from protos.errors import InvalidArgument, ShardcastError

Made = Message | Iterable[Message] | None
"""What a row leads to: one message, several, or none."""

MOST_ROWS = 10_000  # of a unit, whose rows may lead to few messages
STRIDE = 64  # rows whose messages are made before the clock is looked at, as long as that takes no time
SLOW_SECONDS = 0.01
_SINGLE = {Message, type(None)}
PASSING = (Retry, Fail, Skip, Cancelled)
"""Words of a handler about its attempt, not faults of a row."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a unit: messages, bytes, and seconds that it waits for more rows. One row's messages are never divided."""

    messages: int = 1_000
    size: int = 1 << 20
    linger: float = 0.2

    def __post_init__(self) -> None:
        """Raises InvalidArgument."""
        if not (_is_count(self.messages, PUBLISH_MESSAGES) and _is_count(self.size, MAX_PUBLISH_BYTES)):
            most = f"1 to {PUBLISH_MESSAGES} messages and 1 to {MAX_PUBLISH_BYTES} bytes"
            raise InvalidArgument(reason=f"a unit has {most}, not {self.messages!r} and {self.size!r}")
        if not 0 <= self.linger < float("inf"):
            raise InvalidArgument(reason=f"to linger takes 0 seconds or more, not {self.linger!r}")


@dataclass(slots=True)
class Unit:
    """Messages of neighbouring rows of one scan. Its first rows leave it when they are published."""

    due: float  # when it is sent, whatever is in it; seconds of the publisher's clock
    messages: list[Message] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """For each row how many messages there are up to it."""
    size: int = 0
    is_full: bool = False
    _parts: list[tuple[int, Rows, int]] = field(default_factory=list)  # its first row here, the rows, its first there
    _sent: int = 0  # rows

    def __bool__(self) -> bool:
        return self._sent < len(self.ends)

    def begin(self, rows: Rows, start: int) -> None:
        """The next rows are these from `start` on. Raises CheckpointOrder if they do not follow."""
        if self:
            self.cursor(len(self.ends)).join(rows.cursor)
        self._parts.append((len(self.ends), rows, start))

    def add(self, messages: Sequence[Message], size: int, limits: Limits) -> bool:
        """Takes the next row, if there is room for what it leads to; for a single row there always is."""
        had = len(self.messages)
        has, size = had + len(messages), self.size + size
        if (has > limits.messages or size > limits.size) and had and messages:
            return False
        self.messages += messages
        self.size = size
        self.ends.append(has)
        self.is_full = has >= limits.messages or len(self.ends) >= MOST_ROWS
        return True

    def add_all(self, made: Sequence[Made], limits: Limits) -> bool:
        """Takes the next rows if each leads to at most one message and there is room; cheap, by columns."""
        kinds = set(map(type, made))
        if not kinds <= _SINGLE:
            return False
        messages = cast(list[Message], made if kinds == {Message} else [each for each in made if each is not None])
        had, weight = len(self.messages), weigh_plain(messages)
        if weight is None or self.size + weight > limits.size or had + len(messages) > limits.messages:
            return False
        if len(messages) == len(made):
            self.ends += range(had + 1, had + len(made) + 1)
        else:
            self.ends += islice(accumulate((each is not None for each in made), initial=had), 1, None)
        self.messages += messages
        self.size += weight
        self.is_full = len(self.messages) >= limits.messages or len(self.ends) >= MOST_ROWS
        return True

    def is_of(self, rows: Rows) -> bool:
        """Whether the rows are of the same scan."""
        return not self or self._parts[-1][1].cursor.scan == rows.cursor.scan

    def cut(self, most: float) -> int:
        """How many rows have so many messages together; at least one."""
        begun = self._begun(self._sent)
        if len(self.messages) - begun <= most:
            return len(self.ends) - self._sent
        return max(1, bisect_right(self.ends, begun + most, lo=self._sent) - self._sent)

    def count(self, rows: int) -> int:
        """How many messages the next rows have."""
        return self._begun(self._sent + rows) - self._begun(self._sent)

    def take(self, rows: int) -> tuple[Sequence[Message], Cursor]:
        """The next rows leave it."""
        stop = self._sent + rows
        messages = self.messages[self._begun(self._sent) : self._begun(stop)]
        cursor = self.cursor(stop)
        self._sent = stop
        return messages, cursor

    def cursor(self, stop: int) -> Cursor:
        """Of its next rows up to, not including, row `stop`."""
        at = next(index for index in reversed(range(len(self._parts))) if self._parts[index][0] < stop)
        begin, rows, start = self._parts[at]
        last = rows.part(start, start + stop - begin).cursor
        return replace(last, first=last.last - (stop - self._sent))

    def _begun(self, row: int) -> int:
        return self.ends[row - 1] if row else 0


def gather(
    rows: Rows, make: Callable[[Row], Made], limits: Limits, clock: Callable[[], float], begun: Unit | None = None
) -> Iterator[Unit]:
    """Units of what is in `begun` and of these rows, each to be sent before the next one is asked for; the last one is
    not full: it waits for more.

    Raises CheckpointOrder; RowFailed, or the handler's own word, once the rows before are handed out.
    """
    return _Gathering(rows, make, limits, clock).units(begun)


@dataclass(frozen=True, slots=True)
class _Gathering:
    rows: Rows
    make: Callable[[Row], Made]
    limits: Limits
    clock: Callable[[], float]

    def units(self, begun: Unit | None) -> Iterator[Unit]:
        unit = begun or Unit(self.clock() + self.limits.linger)
        if unit.is_of(self.rows):
            unit.begin(self.rows, 0)
        else:
            yield _full(unit)
            unit = self._fresh(0)
        start, stride, failure = 0, 1, None
        while start < len(self.rows) and failure is None:
            began, before, size = self.clock(), unit, unit.size
            room = self.limits.messages - len(unit.messages)
            made, failure = self._made(start, start + min(stride, room))
            if not unit.add_all(made, self.limits):
                unit, unfit = yield from self._one_by_one(unit, start, made)
                failure = unfit or failure
            start, now = start + len(made), self.clock()
            is_light = (unit.size - (size if unit is before else 0)) * 8 <= self.limits.size
            stride = min(2 * stride, STRIDE) if is_light and now - began <= SLOW_SECONDS else 1
            if failure is None and (unit.is_full or now >= unit.due):
                yield _full(unit)
                unit = self._fresh(start)
        if unit:
            yield _full(unit) if failure else unit
        if failure is not None:
            raise failure

    def _made(self, start: int, stop: int) -> tuple[list[Made], Exception | None]:
        """What the rows lead to, up to the first that fails, and its failure."""
        made: list[Made] = []
        try:
            made.extend(map(self.make, self.rows[start:stop]))  # keeps what came before an error
        except Exception as error:
            return made, self._failed(start + len(made), error)
        return made, None

    def _one_by_one(
        self, unit: Unit, start: int, made: Sequence[Made]
    ) -> Generator[Unit, None, tuple[Unit, Exception | None]]:
        """Adds what rows lead to, of any number and size; returns the unit begun last, and the failure of a row."""
        for index, each in enumerate(made, start):
            try:
                messages, size = _weighed(each)
            except Exception as error:
                return unit, self._failed(index, error)
            if unit.is_full or not unit.add(messages, size, self.limits):
                yield _full(unit)
                unit = self._fresh(index)
                unit.add(messages, size, self.limits)
        return unit, None

    def _fresh(self, start: int) -> Unit:
        unit = Unit(self.clock() + self.limits.linger)
        unit.begin(self.rows, start)
        return unit

    def _failed(self, index: int, error: Exception) -> Exception:
        """What `error` says of the row, with its traceback as the cause; a word of the handler stands for itself."""
        if isinstance(error, PASSING):
            return error
        reason = message_of(error) if isinstance(error, ShardcastError) else line_of(error)
        scan, key = self.rows.cursor.scan, self.rows.key(index)
        failure = RowFailed(table=self.rows.table, scan=scan, key=key, reason=reason.rstrip("."))
        failure.__cause__ = error
        return failure


def _full(unit: Unit) -> Unit:
    unit.is_full = True
    return unit


def _weighed(made: Made) -> tuple[Sequence[Message], int]:
    """The messages and their bytes. Raises BadRequest, TooLarge, TooMany."""
    if made is None:
        return (), 0
    if isinstance(made, Message):
        made = (made,)
    if isinstance(made, str | bytes | Mapping) or not isinstance(made, Iterable):
        raise BadRequest(reason=f"a row leads to a Message, several or None, not to {type(made).__name__}")
    messages = (*made,)
    size = sum(map(weigh, messages))
    if len(messages) > PUBLISH_MESSAGES:
        raise TooMany(what="messages of a row", limit=PUBLISH_MESSAGES)
    if size > MAX_PUBLISH_BYTES:
        raise TooLarge(what="messages of a row", size=size, limit=MAX_PUBLISH_BYTES)
    return messages, size


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
