"""What the writer's thread can be asked about leases and dead letters, and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.delivery.leases.handing import Entry
from broker.delivery.leases.settling import Settlement
from broker.errors import LeaseExpired
from broker.model import GroupName, GroupPolicy, LogId, MemberId, QueueKey, Topic, TopicId, TopicName
from broker.queues.encoding import EncodedRun


@dataclass(frozen=True, slots=True)
class Grave:
    """A group's dead letter topic, and the log id that its message ids begin with."""

    topic_id: TopicId
    log_id: LogId


@dataclass(frozen=True, slots=True)
class LeaseMessages:
    """Hand messages of the topic to the member.

    `begins` is by queue where one begins that the group never read, `ends` up to where it may read now. Without a
    grave, messages that have no attempt left stay where they are.
    """

    group: GroupName
    member_id: MemberId
    topic: Topic
    max_messages: int
    lease_ms: int
    tags: frozenset[bytes]
    begins: Sequence[int]
    ends: Sequence[int]
    policy: GroupPolicy
    grave: Grave | None


@dataclass(frozen=True, slots=True)
class SettleLeases:
    """Do what the member says of messages that it has; BadRequest if any is given up by it and there is no grave."""

    group: GroupName
    member_id: MemberId
    topic: TopicName
    topic_id: TopicId
    settlements: Sequence[Settlement]
    policy: GroupPolicy
    grave: Grave | None
    now: float  # in seconds of the clock that counts sessions: the word of a member is a sign of life


@dataclass(frozen=True, slots=True)
class BurySpent:
    """Put a chunk of those messages into the dead letters that are due and have no attempt left."""

    group: GroupName
    topic: TopicName
    topic_id: TopicId
    policy: GroupPolicy
    grave: Grave


@dataclass(frozen=True, slots=True)
class RaiseDeadLetters:
    """Store these runs, the copies of dead letters, and drop the originals."""

    dead_letters: TopicId
    offsets: Sequence[int]
    runs: Sequence[EncodedRun]


@dataclass(frozen=True, slots=True)
class PurgeDeadLetters:
    """Drop these dead letters, or all that are there."""

    dead_letters: TopicId
    offsets: Sequence[int]


@dataclass(frozen=True, slots=True)
class GetLeases:
    """Tell where the group stands."""

    group: GroupName


@dataclass(frozen=True, slots=True)
class ResetLeases:
    """Let the group go on at these offsets of a topic; nobody has any of its messages then."""

    group: GroupName
    topic_id: TopicId
    offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class GiveBackLeases:
    """Take everything back that the member has: it is for anybody at once, and the attempts do not count."""

    group: GroupName
    member_id: MemberId


@dataclass(frozen=True, slots=True)
class DropLeases:
    """Forget the group."""

    group: GroupName


@dataclass(frozen=True, slots=True)
class DropTopicLeases:
    """Forget the topic in all groups."""

    topic_id: TopicId


GroupLeasesCommand = GetLeases | ResetLeases | GiveBackLeases | DropLeases | DropTopicLeases
LeasingCommand = LeaseMessages | SettleLeases | BurySpent | RaiseDeadLetters | PurgeDeadLetters | GroupLeasesCommand


@dataclass(frozen=True, slots=True)
class LeasedEntry:
    """A message that was handed out, and for which time."""

    queue: int
    entry: Entry
    attempt: int


@dataclass(frozen=True, slots=True)
class Leased:
    """What the member got.

    Nothing more is there before `next_due_ms` unless a queue grows or somebody settles; `is_behind`: ask again at once,
    `lacks_grave`: with a grave, `is_out`: as a member of the group again.
    """

    entries: Sequence[LeasedEntry]
    expires_at_ms: int
    next_due_ms: int
    is_behind: bool = False
    lacks_grave: bool = False
    is_out: bool = False


@dataclass(frozen=True, slots=True)
class LeasesSettled:
    """All but the refused are settled, so many are done or dead; `has_freed`: somebody may get a message now."""

    refused: Sequence[LeaseExpired]
    done: int
    has_freed: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """How many dead letters were made, sent again or purged."""

    count: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A queue in a group: all before `floor` are done, nothing from `next` on was looked at."""

    floor: int
    next: int
    leased: int
    waiting: int
    until_ms: int = 0
    """When the last lease runs out; 0: there are none."""


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """Where a group stands; no queues: it never read by lease."""

    queues: Mapping[QueueKey, Standing]


LeasingAnswer = Leased | LeasesSettled | Moved | LeaseReport
