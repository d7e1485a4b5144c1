"""Transactions: which are open, when each is checked, and how those of the last hour ended.

    open -> committed | rolled back | undecided (nobody told the outcome of any of its checks)

As functions from their states to what may happen; the messages stay in the log, found by position.
"""

import enum
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import NamedTuple, Never

from broker.errors import BadRequest, TooLarge, TooMany, TransactionUnknown
from broker.model import TransactionId, TransactionPart
from broker.producers.limits import check_size
from broker.queues.topics import check_name

ID_BYTES = 64
GROUP_NAME = 116  # characters: the topic of its undecided transactions has 11 more
MOST_BYTES = 8 << 20  # of records: what a commit copies in one frame
MOST_MESSAGES = 16_384  # so that the frame holds them with their transaction's name too
MOST_PUBLISHES = 1_024

MOST_OPEN = 10_000

FIRST_CHECK = timedelta(seconds=6)  # RocketMQ's transactionTimeOut
LONGEST_PAUSE = timedelta(minutes=1)
MOST_CHECKS = 15  # RocketMQ's transactionCheckMax

REMEMBERED = timedelta(hours=1)
MOST_REMEMBERED = 100_000

NONE: Mapping[TransactionId, Never] = MappingProxyType({})

_MS = timedelta(milliseconds=1)


class Outcome(enum.StrEnum):
    """How a transaction ended."""

    COMMITTED = enum.auto()
    ROLLED_BACK = enum.auto()
    UNDECIDED = enum.auto()


class Open(NamedTuple):
    """A transaction without an outcome: where its publishes are in the log, what they hold, and its checks so far."""

    producer_group: str
    positions: Sequence[int]
    messages: int
    size: int
    checks: int
    check_at_ms: int


class Ended(NamedTuple):
    """One that has an outcome, and the position of the frame that made it so."""

    outcome: Outcome
    position: int
    at_ms: int


def check_part(part: TransactionPart) -> None:
    """Raises BadName, BadRequest, TooLarge."""
    check_size("transaction id", part.transaction_id.encode(), ID_BYTES)
    if not part.transaction_id:
        raise BadRequest(reason="a transaction id is not empty")
    check_group(part.producer_group)


def check_group(name: str) -> None:
    """Raises BadName, TooLarge."""
    check_name(name, "producer group")
    if len(name) > GROUP_NAME:
        raise TooLarge(what="name of a producer group", size=len(name), limit=GROUP_NAME)


def pause_ms(checks: int) -> int:
    """How long after that many checks the next one comes: 6, 12, 24, 48 s, then every minute."""
    return min(FIRST_CHECK * (1 << min(checks, 10)), LONGEST_PAUSE) // _MS


def joined(known: Open | None, group: str, position: int, *, messages: int, size: int, at_ms: int) -> Open:
    """The transaction with one more publish. Raises BadRequest, TooLarge, TooMany."""
    before = known or Open(group, (), 0, 0, 0, at_ms + pause_ms(0))
    if before.producer_group != group:
        raise BadRequest(reason=f"the transaction belongs to the producer group {before.producer_group}")
    after = before._replace(
        positions=(*before.positions, position),
        messages=before.messages + messages,
        size=before.size + size,
    )
    if after.size > MOST_BYTES:
        raise TooLarge(what="transaction", size=after.size, limit=MOST_BYTES)
    if after.messages > MOST_MESSAGES:
        raise TooMany(what="messages in a transaction", limit=MOST_MESSAGES)
    if len(after.positions) > MOST_PUBLISHES:
        raise TooMany(what="publishes in a transaction", limit=MOST_PUBLISHES)
    return after


def checked(known: Open, now_ms: int) -> Open:
    """Behind one more check."""
    checks = known.checks + 1
    return known._replace(checks=checks, check_at_ms=now_ms + pause_ms(checks))


class Transactions:
    """For the writer's thread; any thread may ask for the lowest position and what is open."""

    def __init__(
        self,
        known: Mapping[TransactionId, Open] = NONE,
        ended: Mapping[TransactionId, Ended] = NONE,
        most_open: int = MOST_OPEN,
    ) -> None:
        self._open = dict(known)
        self._ended = dict(ended)  # in the order of their ends
        self._most_open = most_open

    def judge_join(self, part: TransactionPart, messages: int, size: int, now_ms: int) -> None:
        """Whether a publish may join. Raises BadRequest, TooLarge, TooMany, TransactionUnknown."""
        if part.transaction_id in self._ended:
            raise TransactionUnknown(transaction_id=part.transaction_id)
        known = self._open.get(part.transaction_id)
        if known is None and len(self._open) >= self._most_open:
            raise TooMany(what="open transactions", limit=self._most_open)
        joined(known, part.producer_group, 0, messages=messages, size=size, at_ms=now_ms)

    def join(self, part: TransactionPart, position: int, messages: int, size: int, at_ms: int) -> None:
        """What a stored publish changes."""
        known = self._open.get(part.transaction_id)
        group = part.producer_group
        self._open[part.transaction_id] = joined(known, group, position, messages=messages, size=size, at_ms=at_ms)

    def get(self, transaction_id: TransactionId) -> Open:
        """Raises TransactionUnknown."""
        found = self._open.get(transaction_id)
        if found is None:
            raise TransactionUnknown(transaction_id=transaction_id)
        return found

    def ended(self, transaction_id: TransactionId, outcome: Outcome) -> Ended | None:
        """How it ended, if it is not open. Raises TransactionUnknown if it ended another way, or never was."""
        found = self._ended.get(transaction_id)
        if found is None:
            self.get(transaction_id)
        elif found.outcome is not outcome:
            raise TransactionUnknown(transaction_id=transaction_id)
        return found

    def end(self, transaction_id: TransactionId, ended: Ended) -> None:
        """What a stored end changes. Those that ended too long ago are forgotten."""
        self._open.pop(transaction_id, None)
        self._ended[transaction_id] = ended
        oldest_ms = ended.at_ms - REMEMBERED // _MS
        while len(self._ended) > MOST_REMEMBERED or next(iter(self._ended.values())).at_ms < oldest_ms:
            del self._ended[next(iter(self._ended))]

    def due(self, now_ms: int) -> list[tuple[TransactionId, Open]]:
        """Those to be checked or, after the last check, to be given up.

        A check further away than the longest pause was planned by a clock that has been set back since.
        """
        latest_ms = now_ms + LONGEST_PAUSE // _MS
        return [known for known in self._open.items() if not now_ms < known[1].check_at_ms <= latest_ms]

    def check(self, transaction_id: TransactionId, now_ms: int) -> None:
        """What a stored check changes."""
        self._open[transaction_id] = checked(self._open[transaction_id], now_ms)

    @property
    def has_open(self) -> bool:
        """Whether there is anything to check, now or later."""
        return bool(self._open)

    def is_open(self, transaction_id: TransactionId) -> bool:
        """Whether nobody has told its outcome yet."""
        return transaction_id in self._open

    def lowest(self) -> Open | None:
        """The open transaction whose first publish lies before all others in the log; None: there are none."""
        return min([*self._open.values()], key=lambda known: known.positions[0], default=None)

    def snapshot(self) -> tuple[dict[TransactionId, Open], dict[TransactionId, Ended]]:
        """All of them."""
        return dict(self._open), dict(self._ended)
