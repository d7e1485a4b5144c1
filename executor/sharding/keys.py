"""What names a row: one value or several, as JSON too."""

from collections.abc import Sequence
from typing import TypeGuard, cast
from uuid import UUID

Part = int | str | bytes | UUID
Key = Part | tuple[Part, ...]
"""Of one column its value, of several a tuple with the value of each."""


def key_of(values: Sequence[object]) -> Key:
    """The key with the values of its columns, as a database gives them."""
    return cast(Key, values[0] if len(values) == 1 else tuple(values))


def parts_of(key: Key) -> tuple[Part, ...]:
    return key if isinstance(key, tuple) else (key,)


def is_key(value: object) -> TypeGuard[Key]:
    """Whether the value, or each one of a tuple, is of a type that can name a row."""
    parts = value if isinstance(value, tuple) else (value,)
    return all(isinstance(part, int | str | bytes | UUID) and not isinstance(part, bool) for part in parts)


def key_to_json(key: Key) -> object:
    """Integers and texts as they are, other values as an object that names their kind, several as a list."""
    if isinstance(key, tuple):
        return [_part_to_json(part) for part in key]
    return _part_to_json(key)


def key_from_json(value: object) -> Key:
    """Raises TypeError, ValueError or KeyError."""
    if isinstance(value, list):
        return tuple(_part_from_json(part) for part in value)
    return _part_from_json(value)


def _part_to_json(part: Part) -> object:
    match part:
        case bytes():
            return {"hex": part.hex()}
        case UUID():
            return {"uuid": str(part)}
        case _:
            return part


def _part_from_json(value: object) -> Part:
    match value:
        case {"hex": str(text)}:
            return bytes.fromhex(text)
        case {"uuid": str(text)}:
            return UUID(text)
        case bool():
            raise TypeError("a truth value is no key")
        case int() | str():
            return value
        case _:
            raise TypeError(f"{value!r} is no key")
