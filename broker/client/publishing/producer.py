"""The producer for everybody: publishes from anywhere, each message once, whatever the connection does."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

from broker.client.endpoint import checked
from broker.client.message import Message
from broker.client.publishing.gathering import Gathering
from broker.client.publishing.receipts import Receipt, Receipts
from broker.client.publishing.shard_producer import ShardProducer
from broker.client.publishing.transaction import Check, Transaction, Transactions
from broker.client.unfit import check_message
from broker.errors import Abandoned, BadRequest, NotOpen, ProducerUnknown
from protos.broker.v1 import broker_pb2 as pb
from protos.errors import ShardcastError, Unreachable

WINDOW_BYTES = 64 << 20
SILENT_SECONDS = 1_800.0  # half of the hour after which the broker forgets a plain producer


class Producer:
    """Publishes messages and returns when they are on the broker's disk; a context manager.

    `endpoint` is "host:port" of a Shardcast broker. Publishes may be made side by side, up to `window` are in flight.
    Opening raises Unreachable when nothing answers within `connect_timeout`; from then on it waits while the broker is
    away. A publish whose answer was lost is sent again and still stored once. `group` and `check` are for transactions:
    with a check it is asked for those that producers of the group left open.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        group: str = "producers",
        check: Check | None = None,
        token: str = "",
        window: int = 32,
        connect_timeout: timedelta = timedelta(seconds=10),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = checked(endpoint)
        self._group = group
        self._check = check
        self._token = token
        self._window_size = window
        self._connect_seconds = connect_timeout.total_seconds()
        self._is_open = False
        self._clock = clock
        self._used_at = 0.0
        self._producer_id = _random_id()
        self._term = 0
        self._session: ShardProducer | None = None
        # What the broker had of a failed session; looked at by the calls that wait for it, and gone with the last one.
        self._fenced: WeakKeyDictionary[ShardProducer, int] = WeakKeyDictionary()
        self._renewing = asyncio.Lock()
        self._singles: dict[str, Gathering] = {}
        self._transactions: Transactions | None = None

    async def __aenter__(self) -> Self:
        self._is_open = True
        try:
            async with asyncio.timeout(self._connect_seconds):
                await self._current()
        except TimeoutError as error:
            raise Unreachable(address=self._endpoint) from error
        self._transactions = Transactions(self._endpoint, self._group, token=self._token)
        if self._check is not None:
            self._transactions.watch(self._check)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        for gathering in self._singles.values():
            await gathering.close()
        if self._transactions is not None:
            await self._transactions.close()
        session, self._session = self._session, None
        if session is not None:
            await session.__aexit__(kind, error, trace)

    async def publish(self, topic: str, message: Message) -> Receipt:
        """Publishes one message; those that wait at the same time travel together. Raises a ShardcastError, e.g.
        `too_large`."""
        check_message(message)
        self._check_open()
        to = message.topic or topic
        if to not in self._singles:
            self._singles[to] = Gathering(partial(self.publish_batch, to))
        return await self._singles[to].publish(message)

    async def publish_batch(self, topic: str, messages: Sequence[Message], *, queue: int | None = None) -> Receipts:
        """Publishes messages as one atomic unit and returns a receipt for each once durable.

        At most 8 MiB (`too_large`) and 65,536 messages (`too_many`). Those with equal keys share a queue and keep their
        order, unless all go into a `queue` of your choice. Raises a ShardcastError, and then none is stored.
        """
        return await self._publish(topic, messages, queue=queue)

    async def recall(self, receipt: Receipt) -> None:
        """Takes a delayed message back; waits while the broker is away, and asks again when an answer was lost.

        Raises HandleUnknown when it was delivered, RecalledBefore when it was recalled.
        """
        if receipt.handle is None:
            raise BadRequest(reason="a message that is not delayed cannot be recalled")
        await self._opened().recall(receipt.handle)

    def transaction(self, *, check: Check | None = None) -> Transaction:
        """A block whose messages become visible together at its end, or not at all.

        `check(message)` tells the outcome of a transaction of the group that a dead process left open: True, False, or
        None for later. It holds for this producer from now on.
        """
        transactions = self._opened()
        if check is not None:
            transactions.watch(check)
        return Transaction(transactions, self._publish)

    def _opened(self) -> Transactions:
        if not self._is_open or self._transactions is None:
            raise NotOpen(what="producer")
        return self._transactions

    async def _publish(
        self,
        topic: str,
        messages: Sequence[Message],
        transaction: pb.TransactionPart | None = None,
        queue: int | None = None,
    ) -> Receipts:
        while True:
            session = await self._current()
            try:
                sent = await session.publish(topic, messages, transaction=transaction, queue=queue)
            except ShardcastError as error:
                if error is session.failure:  # somebody else's publish was refused: this one was never sent
                    continue
                raise
            try:
                return await sent
            except Abandoned as abandoned:
                await self._current()
                if int(str(abandoned.fields["sequence"])) <= self._fenced[session]:
                    return Receipts(pb.Published(duplicate=True))
                if session.failure is not None and session.is_turned_away:
                    raise session.failure from None

    async def _current(self) -> ShardProducer:
        """The session, opened anew under a higher term after a refusal: that fences what may still be on its way, so
        that the sequence found then says for certain what was stored. After a long silence too, because the broker may
        have forgotten the producer, and to find out by a publish would leave in doubt whether that was stored."""
        async with self._renewing:
            self._check_open()
            failed = self._session
            now = self._clock()
            is_silent = now - self._used_at >= SILENT_SECONDS
            if failed is not None and failed.failure is None and (failed.is_busy or not is_silent):
                self._used_at = now
                return failed
            if failed is not None and isinstance(failed.failure, ProducerUnknown):
                self._producer_id, self._term = _random_id(), 0
            session = await self._next_session()  # cancelled in here, the next caller opens anew
            self._session, self._used_at = session, now
            if failed is not None:
                self._fenced[failed] = session.last_sequence
                await failed.__aexit__(None, None, None)
            try:
                self._check_open()
            except NotOpen:  # closed meanwhile
                await session.__aexit__(None, None, None)
                raise
            return session

    def _check_open(self) -> None:
        if not self._is_open:
            raise NotOpen(what="producer")

    async def _next_session(self) -> ShardProducer:
        """Under the next term, or under a new id if the broker forgot this one in a long silence."""
        while True:
            self._term += 1
            session = ShardProducer(
                self._endpoint,
                self._producer_id,
                term=self._term,
                holder_id=uuid.uuid4().hex,
                window=self._window_size,
                window_bytes=WINDOW_BYTES,
                token=self._token,
            )
            try:
                return await session.__aenter__()
            except ProducerUnknown:
                self._producer_id, self._term = _random_id(), 0


def _random_id() -> str:
    return f"producer/{uuid.uuid4().hex}"
