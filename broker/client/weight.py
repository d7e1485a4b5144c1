"""What messages weigh in a publish, and whether the broker will take them."""

from collections.abc import Iterable, Sequence

from broker.client.convert import MAX_PUBLISH_BYTES, topic_batches
from broker.client.message import NO_PROPERTIES, Message
from broker.errors import TooLarge
from broker.model import KEY_BYTES, PROPERTIES_BYTES, TAG_BYTES

HEADER_BYTES = 64  # of a stored message, and more


def weigh(message: Message) -> int:
    """Bytes that it takes at most in a publish.

    Raises BadRequest for what is no message or holds what cannot be sent, TooLarge for what the broker would refuse.
    """
    size = 2 * HEADER_BYTES + sum(batch.ByteSize() for batch in topic_batches("", [message]))
    texts = [text for pair in message.properties.items() for text in pair]
    _check("key", _size(message.key), KEY_BYTES)
    _check("tag", _size(message.tag), TAG_BYTES)
    _check("properties of a message", sum(map(_size, texts)), PROPERTIES_BYTES)
    _check("message", size, MAX_PUBLISH_BYTES)
    return size


def weigh_plain(messages: Sequence[Message]) -> int | None:
    """Together, where they have only bodies, keys and tags of the usual kind: cheap, by columns. None: weigh each."""
    bodies = [message.body for message in messages]
    keys = [message.key for message in messages]
    try:
        tags = {message.tag for message in messages}
    except TypeError:  # no text
        return None
    special = [
        1
        for message in messages
        if (message.properties is not NO_PROPERTIES and message.properties)
        or message.topic
        or message.deliver_at
        or message.ordered
    ]
    key_bytes, tag_bytes = _plain_bytes(keys, KEY_BYTES), _plain_bytes(tags, TAG_BYTES)
    if special or set(map(type, bodies)) - {bytes} or key_bytes is None or tag_bytes is None:
        return None
    size = sum(map(len, bodies)) + key_bytes + (tag_bytes + HEADER_BYTES) * len(bodies)
    return size if size <= MAX_PUBLISH_BYTES else None


def _plain_bytes(texts: Iterable[str | None], limit: int) -> int | None:
    """Of all together, if they are ASCII and each is within the limit."""
    kinds = set(map(type, texts))
    if not kinds <= {str, type(None)}:
        return None
    present = [text for text in texts if text]
    whole = "".join(present)
    return len(whole) if whole.isascii() and max(map(len, present), default=0) <= limit else None


def _size(text: str | None) -> int:
    return len(text.encode()) if text else 0


def _check(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(what=what, size=size, limit=limit)
