"""What users gave that cannot be sent, told before protobuf complains in its own words."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from broker.client.message import Batch, Message, ReceivedMessage
from broker.errors import BadRequest
from broker.model import ERROR_BYTES, LONGEST_LEASE_MS

_TEXT = ((str, type(None)), "a str")
_FIELDS = {
    "body": ((bytes,), "bytes"),
    "topic": _TEXT,
    "key": _TEXT,
    "tag": _TEXT,
    "deliver_at": ((datetime, type(None)), "an aware datetime"),
    "ordered": ((bool,), "a bool"),
    "properties": ((Mapping,), "a mapping"),
}


def unfit_publish(topic: object, messages: object, queue: object = None) -> BadRequest:
    """Says what is wrong with a publish that could not be made; looks at everything, as only an error may."""
    faults = _faults(topic, messages, queue)
    return BadRequest(reason=next(faults, "a value is out of bounds"))


def check_message(message: object) -> None:
    """Raises BadRequest for what is no message, or holds what cannot be sent."""
    for fault in _faults_of(message, "the message"):
        raise BadRequest(reason=fault)


def check_settled(messages: Sequence[object]) -> None:
    """Raises BadRequest for anything but what a consumer has received."""
    for each in messages:
        if not isinstance(each, ReceivedMessage | Batch):
            raise BadRequest(reason=f"what a consumer received is settled, not {_kind(each)}; a list goes as *list")


def check_batch(batch: object) -> None:
    """Raises BadRequest for anything but a batch."""
    if not isinstance(batch, Batch):
        raise BadRequest(reason=f"a batch that this consumer gave is committed, not {_kind(batch)}")


def checked_names(names: object, what: str) -> tuple[str, ...]:
    """Each name once. Raises BadRequest for no sequence of texts, and for a text, whose letters are texts too."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise BadRequest(reason=f"{what} are a list of names, not {names!r}")
    for name in names:
        check_name(name, f"one of the {what}")
    return tuple(dict.fromkeys(names))


def check_name(name: object, what: str) -> None:
    """Raises BadRequest for what is no text."""
    for fault in _faults_of_text(name, what):
        raise BadRequest(reason=fault)


def checked_count(count: object, what: str) -> int:
    """Raises BadRequest for what is no number that can be sent."""
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 1 << 32:
        raise BadRequest(reason=f"{what} is a number, not {count!r}")
    return count


def checked_milliseconds(duration: object, what: str, least_ms: int = 0) -> int:
    """A timedelta in milliseconds. Raises BadRequest for anything else, and for one that is too short or too long: the
    broker would refuse all that travels with it.
    """
    if not isinstance(duration, timedelta):
        raise BadRequest(reason=f"{what} is a timedelta, not {duration!r}")
    milliseconds = round(duration.total_seconds() * 1_000)
    if milliseconds < least_ms:
        raise BadRequest(reason=f"{what} cannot be as short as {milliseconds} ms")
    if milliseconds > LONGEST_LEASE_MS:
        raise BadRequest(reason=f"{what} is at most {LONGEST_LEASE_MS} ms, not {milliseconds}")
    return milliseconds


def sendable(error: str) -> str:
    """As much of it as the broker keeps: it may hold halves of characters, which the wire does not take."""
    return error[:ERROR_BYTES].encode(errors="replace").decode()


def _faults(topic: object, messages: object, queue: object) -> Iterator[str]:
    if not isinstance(topic, str | None):
        yield f"a topic's name is a str, not {_kind(topic)}"
    if queue is not None and not (isinstance(queue, int) and 0 <= queue < 1 << 32):
        yield f"a queue is a number from 0 on, not {queue!r}"
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        yield f"messages are a list, not {_kind(messages)}"
        return
    for index, message in enumerate(messages):
        yield from _faults_of(message, f"message {index}")


def _faults_of(message: object, name: str) -> Iterator[str]:
    if not isinstance(message, Message):
        yield f"{name} is a shardcast.Message, not {_kind(message)}"
        return
    for field, (kinds, wanted) in _FIELDS.items():
        value = getattr(message, field)
        if not isinstance(value, kinds):
            yield f"the {field} of {name} is {wanted}, not {_kind(value)}"
        elif isinstance(value, str):
            yield from _faults_of_text(value, f"the {field} of {name}")
    for pair in message.properties.items():
        for text in pair:
            yield from _faults_of_text(text, f"property {pair[0]!r} of {name}")


def _faults_of_text(text: object, name: str) -> Iterator[str]:
    if not isinstance(text, str):
        yield f"{name} is a str, not {_kind(text)}"
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        yield f"{name} is no text: {text!r} has half of a character"


def _kind(value: object) -> str:
    return "None" if value is None else f"of the type {type(value).__name__}"
