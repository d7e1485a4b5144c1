"""What a caller may use as an idempotency key."""

from protos.errors import InvalidArgument

MAX_KEY = 150  # characters; with a run's id before it, it still fits its column


def checked_key(key: str | None) -> str | None:
    """The key, None where none was given. Raises InvalidArgument."""
    if key is not None and not (1 <= len(key) <= MAX_KEY and key.isprintable()):
        raise InvalidArgument(reason=f"an idempotency key has 1 to {MAX_KEY} printable characters")
    return key
