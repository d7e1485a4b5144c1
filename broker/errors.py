"""What the broker refuses, and why."""

from protos.errors import ShardcastError, Status


class BrokerError(ShardcastError):
    """The broker could not do that."""

    code = "broker_error"


class UnknownTopic(BrokerError):
    """There is no topic {topic}."""

    code = "unknown_topic"
    status = Status.NOT_FOUND


class UnknownQueue(BrokerError):
    """Topic {topic} has no queue {queue}; it has {queues}, numbered from 0."""

    code = "unknown_queue"
    status = Status.NOT_FOUND


class UnknownGroup(BrokerError):
    """There is no consumer group {group}."""

    code = "unknown_group"
    status = Status.NOT_FOUND


class TopicExists(BrokerError):
    """Topic {topic} exists with {queues} queues, or with another policy: alter it."""

    code = "topic_exists"
    status = Status.ALREADY_EXISTS


class BadName(BrokerError):
    """{name!r} is no name for a {kind}: use 1 to 127 letters, digits, "_", "-", "." or, not first in a topic's, "%"."""

    code = "bad_name"
    status = Status.INVALID_ARGUMENT


class BadRequest(BrokerError):
    """The request cannot be taken: {reason}."""

    code = "bad_request"
    status = Status.INVALID_ARGUMENT


class TooLarge(BrokerError):
    """The {what} has {size} bytes; the limit is {limit}."""

    code = "too_large"
    status = Status.INVALID_ARGUMENT


class OffsetOutOfRange(BrokerError):
    """Offset {offset} of {topic}/{queue} is out of range: it holds {lowest} up to, not including, {end}."""

    code = "offset_out_of_range"
    status = Status.OUT_OF_RANGE


class StaleTerm(BrokerError):
    """Term {term} of producer {producer_id} is fenced: term {current} is current, and held by another holder."""

    code = "stale_term"
    status = Status.FAILED_PRECONDITION


class SequenceGap(BrokerError):
    """Producer {producer_id} sent sequence {sequence}; {expected} is expected: send again from there."""

    code = "sequence_gap"
    status = Status.FAILED_PRECONDITION


class ProducerUnknown(BrokerError):
    """The broker does not know producer {producer_id} (any more): {reason}."""

    code = "producer_unknown"
    status = Status.FAILED_PRECONDITION


class NotOwner(BrokerError):
    """Member {member_id} of {group} does not own {topic}/{queue} in generation {generation} (any more)."""

    code = "not_owner"
    status = Status.FAILED_PRECONDITION


class ModeConflict(BrokerError):
    """Group {group} is read by {mode}, and one way at a time: {readers}."""

    code = "group_mode"
    status = Status.FAILED_PRECONDITION


class GroupActive(BrokerError):
    """Group {group} is active: {readers}. Ask again when nobody reads; a reset can be forced."""

    code = "group_active"
    status = Status.FAILED_PRECONDITION


class OffsetsMoved(BrokerError):
    """Group {group} does not stand where the preview of {topic} saw it: preview again."""

    code = "offsets_moved"
    status = Status.ABORTED


class LeaseExpired(BrokerError):
    """Attempt {attempt} of {topic}/{queue}/{offset} is not leased to {member_id} (any more)."""

    code = "lease_expired"
    status = Status.FAILED_PRECONDITION


class TopicPermission(BrokerError):
    """Topic {topic} is not {ability}."""

    code = "topic_permission"
    status = Status.PERMISSION_DENIED


class QueueNotDrained(BrokerError):
    """Queue {topic}/{queue} cannot go: group {group} has read it up to {offset} of {end}."""

    code = "queue_not_drained"
    status = Status.FAILED_PRECONDITION


class TransactionUnknown(BrokerError):
    """There is no open transaction {transaction_id}: it was never begun here, or has ended another way."""

    code = "unknown_transaction"
    status = Status.NOT_FOUND


class DelayTooLong(BrokerError):
    """A message cannot be delivered as late as {deliver_at_ms} ms: at most 7 days from now, up to {latest_ms} ms."""

    code = "delay_too_long"
    status = Status.INVALID_ARGUMENT


class HandleUnknown(BrokerError):
    """No delayed message has the handle {handle}: it was delivered or recalled before."""

    code = "unknown_handle"
    status = Status.NOT_FOUND


class RecalledBefore(HandleUnknown):
    """The delayed message of handle {handle} was recalled before."""

    code = "recalled_before"


class TooMany(BrokerError):
    """Too many {what}: the limit is {limit}."""

    code = "too_many"
    status = Status.RESOURCE_EXHAUSTED


class LogDamaged(BrokerError):
    """The commit log is damaged at position {position} of {path}: {reason}."""

    code = "log_damaged"
    status = Status.DATA_LOSS


class DiskFull(BrokerError):
    """The disk of {path} has {free} bytes left, {reserve} are kept free: publishing is refused, consuming goes on."""

    code = "disk_full"
    status = Status.RESOURCE_EXHAUSTED


class RecordDamaged(BrokerError):
    """Offset {offset} of queue {queue} cannot be served: its record at position {position} of {path} is damaged."""

    code = "record_damaged"
    status = Status.DATA_LOSS


class QueueDamaged(BrokerError):
    """The queue's index {path} is damaged: stop the broker and delete that file, and it is made from the log again."""

    code = "queue_damaged"
    status = Status.DATA_LOSS


class BrokerStopping(BrokerError):
    """The broker is stopping; ask again in a moment."""

    code = "broker_stopping"
    status = Status.UNAVAILABLE


class NotOpen(BrokerError):
    """This {what} is not open: use it inside its `with` block."""

    code = "not_open"
    status = Status.FAILED_PRECONDITION


class Abandoned(BrokerError):
    """Publish {sequence} was not sent because an earlier one was refused: {cause}"""

    code = "abandoned"
    status = Status.ABORTED
