"""What delivery needs of a provider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from examples.marketing.messages import PromotionMessage


@dataclass(frozen=True, slots=True)
class Notices:
    """One message to many users. `message_ids` are those of the push messages, one for each user."""

    message: PromotionMessage
    user_ids: Sequence[int]
    message_ids: Sequence[str]

    def key(self, index: int) -> str:
        """The idempotency key: a provider that had it before does nothing."""
        return f"{self.message.promotion_id}:{self.user_ids[index]}"

    def __len__(self) -> int:
        return len(self.user_ids)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider will not take it, now or later."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """It did not go now, as far as is known; another try may go well, `after` that time at the earliest. This was none
    where the provider was not even asked."""

    reason: str
    after: timedelta = timedelta(0)
    was_asked: bool = True


class Provider(Protocol):
    """Called by several threads at a time."""

    def rest(self, now: datetime) -> timedelta:
        """How long it is to be left alone; zero: it may be asked."""

    def send(self, notices: Notices) -> Mapping[int, Rejected | Later]:
        """By index what did not go; all others were accepted."""

    def close(self) -> None: ...
