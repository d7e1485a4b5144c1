"""What a batch of push messages leads to: messages that go on elsewhere, and numbers."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate

from examples.marketing.messages import PHASE, REASON, RESEND, TRIES, Counted, Phase
from examples.marketing.topics import COUNTED, FAILED, PARKED, SEND
from shardcast import Fail, Message, ReceivedMessage

STEPS = tuple(
    timedelta(seconds=seconds)
    for seconds in (10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600)
)
"""How long a message waits for its next try, by tries; RocketMQ's steps."""
MOST_TRIES = len(STEPS) + 1
LONGEST_DELAY = timedelta(days=6)  # of the 7 that the broker keeps a message back
MOST_PROPERTY_BYTES = 16 << 10
"""Of a message to whose properties some are added; the broker takes 32 KiB."""
_OURS = (PHASE, TRIES, RESEND)
MOST_BODY_BYTES = (8 << 20) - (64 << 10)
"""What one publish takes, with room for the rest of a message and its numbers."""
MOST_BYTES = 4 << 20
"""What may go on of one batch, with room for what is added to it: half of what one publish takes."""


def fitting(messages: Sequence[ReceivedMessage]) -> Sequence[ReceivedMessage]:
    """The first ones that can all go on in one publish; one at least. Raises Fail where that one cannot."""
    if (size := len(messages[0].body)) > MOST_BODY_BYTES:
        raise Fail(f"it has {size} bytes: too many to go on")
    if sum(len(each.body) for each in messages) + _property_bytes(messages) <= MOST_BYTES:
        return messages
    sizes = accumulate(len(each.body) + _property_bytes([each]) for each in messages)
    return messages[: max(1, sum(size <= MOST_BYTES for size in sizes))]


def tries_of(message: Message) -> int:
    tries = message.properties.get(TRIES, "0")
    return int(tries) if tries.isdecimal() and len(tries) < 3 else 0


def resend_of(message: Message) -> int:
    """0: it is none of a resend."""
    resend = message.properties.get(RESEND, "0")
    return int(resend) if resend.isdecimal() and len(resend) < 10 else 0


def phase_of(message: Message) -> Phase:
    if not message.properties:  # most have none
        return Phase.REST
    return Phase.CANARY if message.properties.get(PHASE) == Phase.CANARY.value else Phase.REST


class Ledger:
    """Of one batch."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._messages: list[Message] = []
        self._counts: dict[int, Counter[tuple[Phase, str]]] = {}

    @property
    def messages(self) -> Sequence[Message]:
        """All that is to be published."""
        return [*self._messages, *self._counted()]

    def delivered(self, promotion_id: int, messages: Iterable[Message]) -> None:
        self._count(promotion_id, messages, "delivered")

    def dropped(self, promotion_id: int, messages: Iterable[Message]) -> None:
        self._count(promotion_id, messages, "dropped")

    def capped(self, promotion_id: int, messages: Iterable[Message]) -> None:
        self._count(promotion_id, messages, "capped")

    def failed(self, promotion_id: int, message: Message, reason: str) -> None:
        self._count(promotion_id, [message], "failed")
        self.lost(message, reason)

    def lost(self, message: Message, reason: str) -> None:
        """Fails, and counts for no promotion."""
        self._messages.append(_passed_on(message, FAILED, more={REASON: reason}))

    def tried(self, promotion_id: int, message: Message, reason: str, after: timedelta) -> None:
        """Another try, if one is left."""
        tries = tries_of(message) + 1
        if tries >= MOST_TRIES:
            self.failed(promotion_id, message, f"{tries} tries, the last one: {reason}")
            return
        until = self._now + min(max(STEPS[tries - 1], after), LONGEST_DELAY)
        self._messages.append(_passed_on(message, SEND, until, {TRIES: str(tries)}))

    def deferred(self, messages: Iterable[Message], until: datetime) -> None:
        self._messages += [_passed_on(each, SEND, until) for each in messages]

    def parked(self, messages: Iterable[Message], until: datetime | None) -> None:
        self._messages += [_passed_on(each, PARKED, until) for each in messages]

    def _count(self, promotion_id: int, messages: Iterable[Message], what: str) -> None:
        counts = self._counts.setdefault(promotion_id, Counter())
        for phase, count in Counter(map(phase_of, messages)).items():
            counts[phase, what] += count

    def _counted(self) -> Iterable[Message]:
        for promotion_id, counts in self._counts.items():
            for phase in sorted({phase for phase, _ in counts}):
                found = {what: count for (of, what), count in counts.items() if of is phase}
                counted = Counted(promotion_id=promotion_id, phase=phase, **found)
                yield Message(counted.model_dump_json().encode(), topic=COUNTED)


def _passed_on(
    message: Message, topic: str, until: datetime | None = None, more: Mapping[str, str] | None = None
) -> Message:
    properties = {**_kept(message), **more} if more else message.properties
    return Message(message.body, message.key, message.tag, properties, topic, until)


def _kept(message: Message) -> Mapping[str, str]:
    """Its properties; of so many that the broker would take no more of them, those that are ours alone."""
    if _property_bytes([message]) <= MOST_PROPERTY_BYTES:
        return message.properties
    return {name: value for name, value in message.properties.items() if name in _OURS and len(value) < 100}


def _property_bytes(messages: Iterable[Message]) -> int:
    """At most."""
    return sum(
        4 * (len(name) + len(value)) for each in messages if each.properties for name, value in each.properties.items()
    )
