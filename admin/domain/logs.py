"""What handlers logged: lines, the chunks they are stored in, what the caps let through, and where a reader is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from admin.domain.names import Attempt
from protos.errors import InvalidArgument

MAX_LINE_CHARACTERS = 4_096
MAX_CHUNK_BYTES = 64 << 10
LINE_COST = 32  # bytes that a line takes beside its text
CHUNK_COST = 128  # bytes that a chunk takes beside its lines
MARKER_ROOM = 1 << 20  # of a full run, for chunks that only say how much was dropped
WARNING = 30  # as in Python's logging


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line; levels as in Python's logging."""

    at: datetime
    level: int
    text: str

    @property
    def cost(self) -> int:
        """Bytes that count against the caps."""
        return LINE_COST + len(self.text.encode())


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Lines of one attempt, and how many behind them were dropped."""

    attempt: Attempt
    number: int  # of the try, for people; 0: unknown
    lines: Sequence[LogLine]
    dropped: int = 0
    cost: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cost", CHUNK_COST + sum(line.cost for line in self.lines))

    @property
    def without_lines(self) -> Self:
        """Says only that there were some."""
        return replace(self, lines=(), dropped=self.dropped + len(self.lines))


@dataclass(frozen=True, slots=True)
class LogCaps:
    """Bytes that lines may take before compression."""

    attempt_bytes: int
    run_bytes: int


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a reader of a run's log is: before the line `line` of the first chunk whose number is `chunk` or higher."""

    chunk: int = 0
    line: int = 0

    def __str__(self) -> str:
        return f"{self.chunk}.{self.line}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` made; "" is the start. Raises InvalidArgument."""
        chunk, dot, line = text.partition(".")
        if not text:
            return cls()
        if not (dot and _is_number(chunk) and _is_number(line)):
            raise InvalidArgument(reason=f"{text[:64]!r} is no position in a log")
        return cls(int(chunk), int(line))


@dataclass(frozen=True, slots=True)
class LoggedLine:
    """A line as it is read; where `dropped` is not 0 it says that so many lines of the attempt were dropped here."""

    attempt: Attempt
    number: int
    line: LogLine
    dropped: int
    position: Position  # behind it


def admitted(chunk: LogChunk, used: int, run_bytes: int) -> LogChunk | None:
    """What of a chunk goes into a run that has `used` bytes: all of it, else how much was dropped, else nothing."""
    if used + chunk.cost <= run_bytes:
        return chunk
    marker = chunk.without_lines
    return marker if used + marker.cost <= run_bytes + MARKER_ROOM else None


def logged(chunk: LogChunk, number: int, last_at: datetime, after: Position) -> Iterator[LoggedLine]:
    """The lines of a stored chunk behind a position, and a last one where lines were dropped."""
    lines = list(chunk.lines)
    if chunk.dropped:
        lines.append(LogLine(last_at, WARNING, _said(chunk.dropped)))
    skipped = after.line if after.chunk == number else 0
    for index, line in enumerate(lines[skipped:], start=skipped + 1):
        dropped = chunk.dropped if index > len(chunk.lines) else 0
        behind = Position(number, index) if index < len(lines) else Position(number + 1)
        yield LoggedLine(chunk.attempt, chunk.number, line, dropped, behind)


def _said(dropped: int) -> str:
    return "1 line was dropped here" if dropped == 1 else f"{dropped} lines were dropped here"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
