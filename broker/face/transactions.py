"""Transactions: ends as producers tell them, and the loop that asks for those that nobody ended."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import structlog

from broker.engine.commands import CheckTransactions, EndTransaction, GiveUpTransaction
from broker.engine.transacting import read_publish
from broker.errors import BrokerStopping, DiskFull, LogDamaged, TransactionUnknown, UnknownTopic
from broker.face.parts import Parts
from broker.log.attributes import decode_attributes
from broker.log.record import columns_of
from broker.model import Attributes, Check, Checked, TopicId, TopicName, TransactionEnded, TransactionId
from broker.producers.limits import check_size
from broker.producers.transactions import ID_BYTES, Open, Outcome, check_group

log = structlog.get_logger(__name__)

CHECK_SECONDS = 1.0  # between two looks at what is due
UNDECIDED_PREFIX = "%UNDECIDED%"
_MOST_ASKED = 1_000  # that wait for one watcher; what does not fit is asked again at its next check


@dataclass(frozen=True, slots=True)
class Asked:
    """An open transaction whose outcome is asked for, with its first message."""

    transaction_id: TransactionId
    number: int
    topic: str
    body: bytes = b""
    key: bytes = b""
    tag: bytes = b""
    attributes: Attributes = field(default_factory=Attributes)


Watcher = asyncio.Queue[Check | None]
"""What a living producer is to be asked; None: the broker stops. Messages are read when it takes them."""


class Transactions:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._watchers: dict[str, list[Watcher]] = defaultdict(list)
        self.checker = TransactionChecker(parts, self)

    async def end(self, transaction_id: TransactionId, outcome: Outcome) -> TransactionEnded:
        """Raises LogDamaged, TooLarge, TransactionUnknown."""
        check_size("transaction id", transaction_id.encode(), ID_BYTES)
        ended = await self._parts.ask(EndTransaction(transaction_id, outcome))
        assert isinstance(ended, TransactionEnded)
        return ended

    @contextmanager
    def watch(self, producer_group: str) -> Iterator[Watcher]:
        """What the group is asked arrives there. Raises BadName, BrokerStopping, TooLarge."""
        check_group(producer_group)
        self._parts.check_not_stopping()
        watcher: Watcher = asyncio.Queue()
        self._watchers[producer_group].append(watcher)
        try:
            yield watcher
        finally:
            self._watchers[producer_group].remove(watcher)
            if not self._watchers[producer_group]:
                del self._watchers[producer_group]

    def open(self) -> Mapping[TransactionId, Open]:
        """Those without an outcome."""
        return self._parts.engine.transacting.transactions.snapshot()[0]

    def watchers(self, producer_group: str) -> int:
        """How many producers of the group can be asked."""
        return len(self._watchers.get(producer_group, ()))

    def ask(self, check: Check) -> bool:
        """Asks one of the group's producers, another one each time; False if none is there or keeps up."""
        watchers = self._watchers.get(check.producer_group, ())
        free = [watcher for watcher in watchers if watcher.qsize() < _MOST_ASKED]
        if free:
            free[check.number % len(free)].put_nowait(check)
        return bool(free)

    async def read(self, check: Check) -> Asked | None:
        """What the producer is told; None if the transaction has ended meanwhile, or cannot be read."""
        transactions = self._parts.engine.transacting.transactions
        if not transactions.is_open(check.transaction_id):
            return None
        try:
            return await self._parts.on_disk(self._read, check)
        except LogDamaged as error:
            if transactions.is_open(check.transaction_id):
                log.error("a transaction is damaged", action="transaction_damaged", exc_info=error)
            return None

    def _read(self, check: Check) -> Asked:
        head, parts = read_publish(self._parts.engine.log, check.position)
        for run, records in zip(head.runs, parts, strict=True):
            if not run.indexes or run.indexes[0] == 0:  # of a publish's first batch the first message is in such a run
                columns, topic = columns_of(records), self._parts.catalog.topics.by_id(TopicId(run.topic_id))
                attributes = decode_attributes(columns.attributes[0]) if columns.attributes.get(0) else Attributes()
                return Asked(
                    check.transaction_id,
                    check.number,
                    topic.name if topic else "",
                    columns.bodies[0],
                    (*columns.keys, b"")[0],
                    (*columns.tags, b"")[0],
                    attributes,
                )
        return Asked(check.transaction_id, check.number, "")

    def close(self) -> None:
        """Watchers hear that the broker stops."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.put_nowait(None)
        self.checker.wake()


@dataclass(frozen=True, slots=True)
class CheckCounts:
    """What one look did."""

    checked: int
    asked: int
    undecided: int


class TransactionChecker:
    """Counts the checks of open transactions, has producers asked, and gives up what was asked for too often."""

    def __init__(self, parts: Parts, transactions: Transactions) -> None:
        self._parts = parts
        self._transactions = transactions
        self._stopping = asyncio.Event()

    def wake(self) -> None:
        """Ends the loop."""
        self._stopping.set()

    async def run_once(self) -> CheckCounts:
        """Raises BrokerStopping."""
        if not self._parts.engine.transacting.transactions.has_open:
            return CheckCounts(0, 0, 0)
        due = await self._parts.ask(CheckTransactions())
        assert isinstance(due, Checked)
        asked = [self._transactions.ask(check) for check in due.asked]
        undecided = [await self._give_up(check) for check in due.exhausted]
        return CheckCounts(len(due.asked), sum(asked), sum(undecided))

    async def run(self) -> None:
        """Until the broker stops."""
        with suppress(BrokerStopping):
            while not self._stopping.is_set():
                with suppress(TimeoutError):  # not by `asyncio.wait_for`, which may swallow a cancellation
                    async with asyncio.timeout(CHECK_SECONDS):
                        await self._stopping.wait()
                await self.run_once()

    async def _give_up(self, check: Check) -> bool:
        """False if it was ended just now, or has to wait: the disk is full, or its topic was deleted just now."""
        name = TopicName(f"{UNDECIDED_PREFIX}{check.producer_group}")
        try:
            self._parts.space.check()
            topic = await self._parts.on_disk(self._parts.catalog.topics.get_or_create_own, name)
            await self._parts.ask(GiveUpTransaction(check.transaction_id, topic.topic_id))
        except (DiskFull, TransactionUnknown, UnknownTopic):
            return False
        log.warning("a transaction is given up", action="transaction_undecided", transaction=check.transaction_id)
        return True
