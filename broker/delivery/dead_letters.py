"""Dead letters: messages that a group gave up, kept in a topic of its own until they are sent again or purged."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from broker.model import Attributes, GroupName, LogId, QueueRange, TopicId, TopicName, message_id

PREFIX = "%DLQ%"
TOPIC = "dead-letter-topic"
QUEUE = "dead-letter-queue"
OFFSET = "dead-letter-offset"
MESSAGE_ID = "dead-letter-message-id"
ATTEMPTS = "dead-letter-attempts"
ERROR = "dead-letter-error"
AT = "dead-letter-at"
PROPERTIES = frozenset({TOPIC, QUEUE, OFFSET, MESSAGE_ID, ATTEMPTS, ERROR, AT})


def topic_of(group: GroupName) -> TopicName:
    """Where the group's dead letters go."""
    return TopicName(PREFIX + group)


@dataclass(frozen=True, slots=True)
class Death:
    """Of which message, and why it was given up."""

    log_id: LogId
    topic: TopicName
    topic_id: TopicId
    queue: int
    offset: int
    attempts: int
    error: str
    at_ms: int


def buried(attributes: Attributes, death: Death) -> Attributes:
    """What the dead letter has beside body, key and tag of the message."""
    told = {
        TOPIC: death.topic,
        QUEUE: str(death.queue),
        OFFSET: str(death.offset),
        MESSAGE_ID: message_id(death.log_id, death.topic_id, death.queue, death.offset),
        ATTEMPTS: str(death.attempts),
        ERROR: death.error,
        AT: str(death.at_ms),
    }
    return replace(attributes, properties={**attributes.properties, **told}, deliver_at_ms=0)


def raised(attributes: Attributes) -> Attributes:
    """What it has when it is sent again: as the message was."""
    kept = {name: value for name, value in attributes.properties.items() if name not in PROPERTIES}
    return replace(attributes, properties=kept, deliver_at_ms=0)


def topic_before(properties: Mapping[str, str]) -> TopicName:
    """Where the message came from."""
    return TopicName(properties[TOPIC])


@dataclass(frozen=True, slots=True)
class Gone:
    """Which messages of a dead letter queue are not there any more: all before `floor`, and these."""

    floor: int = 0
    above: frozenset[int] = frozenset()

    def __contains__(self, offset: object) -> bool:
        return isinstance(offset, int) and (offset < self.floor or offset in self.above)

    def __len__(self) -> int:
        return self.floor + len(self.above)

    def left_of(self, held: QueueRange) -> int:
        """How many of the messages that the queue holds are still there."""
        lowest = max(held.lowest_offset, self.floor)
        gone = sum(lowest <= offset < held.end_offset for offset in self.above)
        return max(0, held.end_offset - lowest - gone)

    def with_(self, offsets: Iterable[int]) -> "Gone":
        """These are gone too."""
        above, floor = {*self.above, *offsets}, self.floor
        while floor in above:
            above.discard(floor)
            floor += 1
        return Gone(floor, frozenset(offset for offset in above if offset >= floor))

    def before(self, end: int) -> "Gone":
        """Everything before `end` is gone too."""
        return Gone(max(self.floor, end), frozenset(offset for offset in self.above if offset >= end)).with_(())
