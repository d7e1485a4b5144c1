"""What the writer's thread can be asked to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from broker.delivery.retention.retiring import RetireMessages
from broker.engine.leasing.commands import Grave, LeasingCommand
from broker.errors import BrokerError
from broker.groups.resetting import Reset
from broker.model import (
    Beat,
    Claim,
    GroupName,
    GroupPolicy,
    HolderId,
    MemberId,
    OffsetCommit,
    ProducerId,
    TopicId,
    TopicName,
    TransactionId,
    TransactionPart,
)
from broker.producers.transactions import Outcome
from broker.queues.altered.alteration import Alteration
from broker.queues.encoding import EncodedRun


@dataclass(frozen=True, slots=True)
class OpenProducer:
    """Fence every other holder of the producer."""

    producer_id: ProducerId
    term: int
    holder_id: HolderId


@dataclass(frozen=True, slots=True)
class StorePublish:
    """Store this unit if it is the producer's next one."""

    producer_id: ProducerId
    term: int
    holder_id: HolderId
    sequence: int
    cursor: bytes | None
    runs: Sequence[EncodedRun]
    stored_at_ms: int
    transaction: TransactionPart | None = None


@dataclass(frozen=True, slots=True)
class RefusePublish:
    """Refuse a publish that cannot be taken now, unless it was stored before."""

    producer_id: ProducerId
    term: int
    holder_id: HolderId
    sequence: int
    refusal: BrokerError


@dataclass(frozen=True, slots=True)
class GetProducer:
    """Tell where the producer stands, behind everything before."""

    producer_id: ProducerId


@dataclass(frozen=True, slots=True)
class ForgetProducer:
    """Drop one producer, or all below a name that ends in "/"."""

    name: str


@dataclass(frozen=True, slots=True)
class ForgetSilent:
    """Drop the producers that have outlived their time."""


@dataclass(frozen=True, slots=True)
class DeliverDue:
    """Move a chunk of the delayed messages that are due into their queues."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Take one delayed message back."""

    handle: int


@dataclass(frozen=True, slots=True)
class BeatGroup:
    """Join a group or stay in it; here and below `now` is in seconds of the clock that counts sessions."""

    sign: Beat
    now: float


@dataclass(frozen=True, slots=True)
class JoinByLease:
    """Join a group, or stay in it, as a member that leases: to be asked again well within its session."""

    sign: Beat
    now: float


@dataclass(frozen=True, slots=True)
class ReleaseQueues:
    """Give queues to who should have them."""

    group: GroupName
    member_id: MemberId
    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class LeaveGroup:
    """Give everything the member owns, or has leased, to the others."""

    group: GroupName
    member_id: MemberId


@dataclass(frozen=True, slots=True)
class CommitOffsets:
    """Move offsets forward, all of these or none."""

    group: GroupName
    member_id: MemberId
    commits: Sequence[OffsetCommit]


@dataclass(frozen=True, slots=True)
class BuryMessages:
    """Copy these messages, which a member reads by offset, into the dead letters, and commit behind the last of them.

    What is committed already stays where it is: who asks again, because the answer was lost, buries nothing twice.
    """

    group: GroupName
    member_id: MemberId
    claim: Claim
    topic_id: TopicId
    offsets: Sequence[int]
    attempts: int
    error: str
    grave: Grave


@dataclass(frozen=True, slots=True)
class GetGroup:
    """Tell all about a group."""

    group: GroupName
    now: float


@dataclass(frozen=True, slots=True)
class AlterGroup:
    """Set the policy; makes the group if there is none."""

    group: GroupName
    policy: GroupPolicy


@dataclass(frozen=True, slots=True)
class ResetOffsets:
    """Move a group on one topic, back too."""

    reset: Reset
    now: float


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    """Forget a group that nobody reads in."""

    group: GroupName
    now: float


@dataclass(frozen=True, slots=True)
class DropSilent:
    """Let go of the members that were silent for too long, in all groups."""

    now: float


MemberCommand = BeatGroup | JoinByLease | ReleaseQueues | LeaveGroup | CommitOffsets
OperatorCommand = GetGroup | AlterGroup | ResetOffsets | DeleteGroup | DropSilent
GroupingCommand = MemberCommand | OperatorCommand


@dataclass(frozen=True, slots=True)
class AlterTopic:
    """Change a topic, whole or not at all."""

    name: TopicName
    change: Alteration


@dataclass(frozen=True, slots=True)
class DeleteTopic:
    """Delete a topic with all its messages."""

    name: TopicName


AlteringCommand = AlterTopic | DeleteTopic


@dataclass(frozen=True, slots=True)
class EndTransaction:
    """Copy all that belongs to the transaction into its queues, or drop it."""

    transaction_id: TransactionId
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CheckTransactions:
    """Count a check of every open transaction that is due for one."""


@dataclass(frozen=True, slots=True)
class GiveUpTransaction:
    """Nobody told its outcome: put its messages into this topic."""

    transaction_id: TransactionId
    topic_id: TopicId


TransactingCommand = EndTransaction | CheckTransactions | GiveUpTransaction
DelayingCommand = DeliverDue | Recall
PublishingCommand = OpenProducer | StorePublish | RefusePublish | GetProducer | ForgetProducer | ForgetSilent
Command = (
    PublishingCommand
    | DelayingCommand
    | TransactingCommand
    | GroupingCommand
    | LeasingCommand
    | BuryMessages
    | AlteringCommand
    | RetireMessages
)
