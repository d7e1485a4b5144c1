"""Reads push messages fast: those of a promotion differ in the user id alone, and what stands before it is read once.

What comes out is what full validation gives, for any body.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from examples.marketing.messages import MAX_BYTES, PromotionMessage, PushMessage
from examples.marketing.settings import faults

MOST_HEADS = 64
_BEFORE_ID = b',"user_id":'
_MOST_DIGITS = 18
_ZERO, _BRACE = b"0"[0], b"}"[0]
_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Letters:
    """Bodies with the same promotion's message: which of those that were read, and the user of each."""

    message: PromotionMessage
    indexes: list[int] = field(default_factory=list)  # rising
    user_ids: list[int] = field(default_factory=list)

    def add(self, index: int, user_id: int) -> None:
        self.indexes.append(index)
        self.user_ids.append(user_id)

    def before(self, count: int) -> "Letters":
        """Those with an index below it."""
        at = bisect_left(self.indexes, count)
        return self if at == len(self.indexes) else Letters(self.message, self.indexes[:at], self.user_ids[:at])


@dataclass(frozen=True, slots=True)
class Mail:
    """All that was read: letters by promotion's message, and by index why a body is no push message."""

    letters: Sequence[Letters]
    unreadable: dict[int, str]


class Reader:
    """Remembers heads: what stands before the user id in a body that was valid. Any thread may use it."""

    def __init__(self) -> None:
        self._heads: dict[bytes, PromotionMessage] = {}

    def read(self, bodies: Sequence[bytes]) -> Mail:
        found: dict[bytes, Letters] = {}
        unreadable: dict[int, str] = {}
        head, size, longest, letters = b"\0", 1, 0, None
        for index, body in enumerate(bodies):
            if letters is None or not body.startswith(head) or not _ends_as_id(body, size, longest):
                read = self._read(body)
                if isinstance(read, str):
                    unreadable[index] = read
                    continue
                head, message, user_id = read
                size, longest = len(head), min(len(head) + _MOST_DIGITS + 1, MAX_BYTES)
                letters = found.get(head)
                if letters is None:
                    letters = found[head] = Letters(message)
            else:
                user_id = int(body[size:-1])
            letters.indexes.append(index)
            letters.user_ids.append(user_id)
        return Mail(list(found.values()), unreadable)

    def _read(self, body: bytes) -> tuple[bytes, PromotionMessage, int] | str:
        """The head, what it says and the user id; or why not."""
        if len(body) > MAX_BYTES:
            return f"it has {len(body)} bytes, and {MAX_BYTES} is the limit"
        at = body.rfind(_BEFORE_ID)
        head = body[: at + len(_BEFORE_ID)]
        is_plain = at > 0 and _ends_as_id(body, len(head), len(body))
        if is_plain and (known := self._heads.get(head)) is not None:
            return head, known, int(body[len(head) : -1])
        try:
            whole = PushMessage.model_validate_json(body)
        except ValidationError as error:
            return faults(error)[:_REASON_CHARACTERS]
        message = PromotionMessage.model_validate(whole.model_dump(exclude={"user_id"}))
        if not is_plain:
            return message.head, message, whole.user_id
        self._remember(head, message)
        return head, message, whole.user_id

    def _remember(self, head: bytes, message: PromotionMessage) -> None:
        if len(self._heads) >= MOST_HEADS:
            self._heads = {}  # those in use are back with their next body
        self._heads[head] = message


def _ends_as_id(body: bytes, size: int, longest: int) -> bool:
    """Whether what stands behind the first `size` bytes is a whole number as JSON writes it, and the end."""
    digits = body[size:-1]
    return (
        digits.isdigit()
        and len(body) <= longest
        and body[-1] == _BRACE
        and len(digits) <= _MOST_DIGITS
        and (digits[0] != _ZERO or digits == b"0")
    )
