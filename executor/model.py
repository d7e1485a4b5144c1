"""What an executor is told to do and what it tells back, as plain data."""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NewType

from broker.client.message import Message

RunId = NewType("RunId", str)
ExecutorId = NewType("ExecutorId", str)
Term = NewType("Term", int)


@dataclass(frozen=True, slots=True, order=True)
class AttemptKey:
    """Names one try of a shard by one holder."""

    run_id: RunId
    shard: int
    term: Term

    @property
    def producer_id(self) -> str:
        """The one producer of the shard, the same for all its attempts."""
        return f"run/{self.run_id}/{self.shard}"

    def __str__(self) -> str:
        return f"{self.run_id}/{self.shard}#{self.term}"


@dataclass(frozen=True, slots=True)
class Shard:
    """Slice `index` of `total`."""

    index: int
    total: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """A shard handed to this executor."""

    key: AttemptKey
    job: str
    handler: str
    total: int
    params: str = "null"  # JSON text
    attempt_number: int = 1
    max_attempts: int = 1
    timeout: timedelta | None = None
    pins: Mapping[str, str] = field(default_factory=dict)  # written once per run: "log" and "scan/<name>"
    fire_at: datetime | None = None
    cause: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)  # of earlier attempts

    @property
    def shard(self) -> Shard:
        return Shard(self.key.shard, self.total)


@dataclass(frozen=True, slots=True)
class Counters:
    """How far a shard is, as of its last acknowledged publish, earlier attempts included."""

    rows: int = 0
    published: int = 0
    cursor: str = ""  # JSON text, for display
    done: int = 0  # what the handler said by progress(done, total)
    total: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)  # what the handler said by count(name)


class OutcomeState(enum.StrEnum):
    """How an attempt ended."""

    SUCCEEDED = enum.auto()
    FAILED = enum.auto()
    CANCELLED = enum.auto()
    SKIPPED = enum.auto()
    FENCED = enum.auto()  # the broker refused the term
    RELEASED = enum.auto()  # handed back while draining


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is reported of an attempt that has ended."""

    key: AttemptKey
    state: OutcomeState
    started_at: datetime
    ended_at: datetime
    result: str = ""  # JSON text
    error_code: str = ""
    error_message: str = ""
    traceback: str = ""
    is_retryable: bool = False
    retry_after: timedelta | None = None  # None: as the job's retry policy says
    broker_term: int = 0  # of fenced ones
    counters: Counters = Counters()


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a handler logged; levels as in Python's logging."""

    at: datetime
    level: int
    text: str


@dataclass(frozen=True, slots=True, init=False)
class Handled:
    """A listener may return it: the first `count` of the messages that it was called with are done, the others not yet.

    `publish` is what those that are done lead to, a message or several, where the listener has `to`. The others come
    again `after` that time (in seconds where it is a number; None: at once), and this counts as no attempt, so that
    `Handled(0, after=1)` waits in place for as long as it takes.
    """

    count: int
    publish: Message | Iterable[Message]
    after: timedelta

    def __init__(
        self, count: int, publish: Message | Iterable[Message] = (), after: timedelta | float | None = None
    ) -> None:
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "publish", publish)
        object.__setattr__(
            self, "after", timedelta(seconds=after or 0) if isinstance(after, int | float | None) else after
        )
