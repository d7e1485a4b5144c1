"""Attributes of a message as bytes: flags u8, deliver_at_ms i64, properties u16, then each as two sized texts."""

import struct
from collections.abc import Mapping

from broker.model import Attributes

_HEAD = struct.Struct("<BqH")
_SIZE = struct.Struct("<H")
_ORDERED = 1


def encode_attributes(attributes: Attributes) -> bytes:
    """The attributes as bytes; each text has at most 65,535 of them."""
    flags = _ORDERED if attributes.ordered else 0
    parts = [_HEAD.pack(flags, attributes.deliver_at_ms, len(attributes.properties))]
    for name, value in attributes.properties.items():
        for text in (name.encode(), value.encode()):
            parts += (_SIZE.pack(len(text)), text)
    return b"".join(parts)


def decode_attributes(data: bytes) -> Attributes:
    """The inverse of `encode_attributes`."""
    flags, deliver_at_ms, count = _HEAD.unpack_from(data)
    return Attributes(_decode_properties(data, _HEAD.size, count), deliver_at_ms, bool(flags & _ORDERED))


def _decode_properties(data: bytes, at: int, count: int) -> Mapping[str, str]:
    texts = []
    for _ in range(2 * count):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        texts.append(data[at : at + size].decode())
        at += size
    return dict(zip(texts[::2], texts[1::2], strict=True))


def due_of(data: bytes) -> int:
    """`deliver_at_ms` of what are attributes, if anything; 0 of what is too short for that."""
    return int(_HEAD.unpack_from(data)[1]) if len(data) >= _HEAD.size else 0


def is_ordered(data: bytes) -> bool:
    """Whether these are attributes of an ordered message; no bytes are no attributes."""
    return bool(data) and bool(data[0] & _ORDERED)
