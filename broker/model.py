"""The broker's data: names, topics, batches as columns, and what its calls answer."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple, NewType

TopicName = NewType("TopicName", str)
TopicId = NewType("TopicId", int)
ProducerId = NewType("ProducerId", str)
HolderId = NewType("HolderId", str)
GroupName = NewType("GroupName", str)
MemberId = NewType("MemberId", str)
LogId = NewType("LogId", str)
TransactionId = NewType("TransactionId", str)

KEY_BYTES = 1_024  # at most, of a message; the next two as well
TAG_BYTES = 255
PROPERTIES_BYTES = 32 << 10
PUBLISH_MESSAGES = 65_536  # at most, of one publish
ERROR_BYTES = 4 << 10  # that are kept of why a message failed
LONGEST_LEASE_MS = 43_200_000  # and as long until a message comes again


def message_id(log_id: str, topic_id: int, queue: int, offset: int) -> str:
    """Unique as long as the log id is: topic ids are never reused, offsets neither."""
    return f"{log_id[:12]}-{topic_id:x}-{queue:x}-{offset:x}"


class QueueKey(NamedTuple):
    """One queue of one topic."""

    topic_id: TopicId
    queue: int


@dataclass(frozen=True, slots=True)
class TopicPolicy:
    """What a topic allows and keeps; None: no limit of its own."""

    is_readable: bool = True
    is_writable: bool = True
    retention: timedelta | None = None
    retention_bytes: int | None = None
    messages_per_second: float | None = None  # published; a publisher above it waits


@dataclass(frozen=True, slots=True)
class Gate:
    """A group reads `queue` from `offset` on only when it has committed `required_queue` up to `required_offset`."""

    queue: int
    offset: int
    required_queue: int
    required_offset: int


@dataclass(frozen=True, slots=True)
class Topic:
    """Its id is never used again. Queues are numbered from 0; those from `write_queues` on only empty themselves."""

    name: TopicName
    topic_id: TopicId
    write_queues: int
    read_queues: int
    policy: TopicPolicy = TopicPolicy()
    gates: Sequence[Gate] = ()


@dataclass(frozen=True, slots=True)
class Attributes:
    """What few messages have."""

    properties: Mapping[str, str] = field(default_factory=dict)
    deliver_at_ms: int = 0
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class TopicBatch:
    """Messages of one topic as columns: keys are none at all or one each, tags none, one for all or one each."""

    topic: TopicName
    bodies: Sequence[bytes]
    keys: Sequence[bytes] = ()
    tags: Sequence[bytes] = ()
    attributes: Mapping[int, Attributes] = field(default_factory=dict)
    queue: int | None = None


@dataclass(frozen=True, slots=True)
class TransactionPart:
    """Makes a publish invisible until its transaction is committed; any producer of the group can tell the outcome."""

    transaction_id: TransactionId
    producer_group: str


@dataclass(frozen=True, slots=True)
class Publish:
    """One atomic unit of a producer: all its messages and its cursor, or nothing."""

    producer_id: ProducerId
    term: int
    holder_id: HolderId
    sequence: int
    cursor: bytes | None
    batches: Sequence[TopicBatch]
    transaction: TransactionPart | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """Messages of one batch in one queue; no indexes: they follow those of the range before.

    Delayed ones have handles in place of offsets.
    """

    batch: int
    topic_id: TopicId
    queue: int
    first_offset: int
    count: int
    indexes: Sequence[int] = ()
    handles: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Published:
    """A publish that is durable; a duplicate's ranges may be unknown by now."""

    duplicate: bool
    ranges: Sequence[Range]
    stored_at_ms: int


@dataclass(frozen=True, slots=True)
class TransactionEnded:
    """Where the messages of a committed transaction are."""

    ranges: Sequence[Range]


@dataclass(frozen=True, slots=True)
class Check:
    """A transaction whose outcome is asked for, the how manieth time, and where its first publish lies in the log."""

    transaction_id: TransactionId
    producer_group: str
    number: int
    position: int


@dataclass(frozen=True, slots=True)
class Checked:
    """What was due: to be asked for, and to be given up."""

    asked: Sequence[Check]
    exhausted: Sequence[Check]


@dataclass(frozen=True, slots=True)
class Delivered:
    """How many delayed messages were due and are in their queues now, and when the next ones are due; None: there are
    no more."""

    count: int
    next_due_ms: int | None


@dataclass(frozen=True, slots=True)
class Recalled:
    """A delayed message will not be delivered."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Where an opened producer goes on."""

    last_sequence: int
    cursor: bytes | None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many producers were forgotten."""

    count: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """Messages of a queue as columns, and what the queue holds.

    They stand at `offsets`, or at first_offset, first_offset + 1, ... if that is empty; the reader goes on at
    `next_offset`.
    """

    topic_id: TopicId
    first_offset: int
    lowest_offset: int
    end_offset: int
    bodies: Sequence[bytes] = ()
    keys: Sequence[bytes] = ()
    tags: Sequence[bytes] = ()
    attributes: Mapping[int, Attributes] = field(default_factory=dict)
    published_at_ms: Sequence[int] = ()
    next_offset: int = 0
    offsets: Sequence[int] = ()


class TopicQueue(NamedTuple):
    """A queue as consumer groups name it."""

    topic: TopicName
    queue: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A queue and the number of its assignment."""

    at: TopicQueue
    generation: int


@dataclass(frozen=True, slots=True)
class OffsetCommit:
    """Under this claim everything before the offset is done."""

    claim: Claim
    offset: int


class Edge(enum.StrEnum):
    """An end of a queue: the first message stored, or the next one to come."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Since:
    """The first message stored at this instant (milliseconds since the epoch) or later."""

    at_ms: int


Start = Edge | Since
"""Where a queue begins that a group never read."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A member's sign of life in its group."""

    group: GroupName
    member_id: MemberId
    topics: frozenset[TopicName]
    session_seconds: float
    start: Start = Edge.EARLIEST


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """All that the member owns with the offset to go on from, and which of it to give back."""

    owned: Sequence[OffsetCommit]
    release: Sequence[Claim]
    beat_seconds: float


@dataclass(frozen=True, slots=True)
class QueueRange:
    """What a queue holds: lowest_offset up to, not including, end_offset."""

    lowest_offset: int
    end_offset: int


class Mode(enum.StrEnum):
    """How a group reads; one way at a time."""

    OFFSET = "offset"
    LEASE = "lease"


ROCKETMQ_WAITS_MS = tuple(
    1_000 * seconds
    for seconds in (1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200)
)
"""The 18 delay levels of RocketMQ's default, messageDelayLevel."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The wait before the second attempt, the third, ...; the last one counts on."""

    waits_ms: Sequence[int] = ROCKETMQ_WAITS_MS

    def wait_ms(self, attempt: int) -> int:
        """The wait behind this attempt, which failed; the first is 1."""
        return self.waits_ms[min(attempt, len(self.waits_ms)) - 1]


@dataclass(frozen=True, slots=True)
class Exponential:
    """Each wait is `multiplier` times the one before, up to a longest one."""

    initial_ms: int
    max_ms: int
    multiplier: float

    def wait_ms(self, attempt: int) -> int:
        """The wait behind this attempt, which failed; the first is 1."""
        wait = float(self.initial_ms)
        for _ in range(attempt - 1):
            if wait >= self.max_ms or self.multiplier <= 1:
                break
            wait *= self.multiplier
        return int(min(wait, self.max_ms))


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """How often and when a group gets a message again, and how fast it may read.

    `attempts` counts all of them, the first included: 17 are RocketMQ's 16 retries. 0 messages a second is no limit.
    """

    attempts: int = 17
    backoff: Steps | Exponential = Steps()
    messages_per_second: float = 0.0
    most_leased: int = 10_000
