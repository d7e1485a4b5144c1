"""Transactions of a producer: messages that become visible together or not at all, and the check back.

What the process that began a transaction cannot tell any more, any living producer of its group is asked for.
"""

import asyncio
import inspect
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self, TypeAlias

from broker.client.backoff import backoff
from broker.client.message import NO_PROPERTIES, Message
from broker.client.publishing.shard_producer import PASSING
from broker.errors import NotOpen, RecalledBefore
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import CALL_SECONDS, bearer, dial, renamed
from protos.errors import ShardcastError

log = logging.getLogger(__name__)

Check: TypeAlias = Callable[[Message], bool | None] | Callable[[Message], Awaitable[bool | None]]
"""Tells from a transaction's first message whether it was committed (True), rolled back (False), or is not decided yet
(None: asked again later). A plain function runs in a thread."""

Publish: TypeAlias = Callable[[str, Sequence[Message], pb.TransactionPart], Awaitable[object]]


class Transactions:
    """The transactions of one producer, and the calls that end them."""

    def __init__(self, endpoint: str, group: str, *, token: str) -> None:
        self._endpoint = endpoint
        self.group = group
        self._metadata = bearer(token)
        self._channel = dial(endpoint)
        self._stub = BrokerServiceStub(self._channel)
        self._open: set[str] = set()
        self._is_closed = False
        self._check: Check | None = None
        self._watching: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Ends the watch; what is open stays open."""
        self._is_closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._channel.close()

    def watch(self, check: Check) -> None:
        """From now on answers what the broker asks of the group."""
        self._check = check
        if self._watching is None:
            self._watching = asyncio.create_task(self._keep_watching())

    async def recall(self, handle: int) -> None:
        """Waits while the broker is away. Raises HandleUnknown."""
        request, may_be_done = pb.RecallRequest(handle=handle), False
        async for _ in backoff():
            try:
                with renamed(self._endpoint):
                    await self._stub.Recall(request, timeout=CALL_SECONDS, metadata=self._metadata)
                return
            except RecalledBefore:
                if not may_be_done:
                    raise
                return
            except PASSING as error:
                may_be_done = True
                log.info("recall not answered", extra={"action": "recall_retry", "error": str(error)})

    def begun(self, transaction_id: str) -> None:
        """It is open here: not to be asked for."""
        self._open.add(transaction_id)

    def left(self, transaction_id: str) -> None:
        """It is none of this producer's any more."""
        self._open.discard(transaction_id)

    async def commit(self, transaction_id: str) -> None:
        """Waits while the broker is away. Raises TransactionUnknown if it was decided another way meanwhile."""
        async for _ in backoff():
            try:
                await self.end(transaction_id, pb.OUTCOME_COMMIT)
                return
            except PASSING as error:
                log.info("commit not answered", extra={"action": "commit_retry", "error": str(error)})

    async def end(self, transaction_id: str, outcome: pb.Outcome.ValueType) -> None:
        """Tries once. Raises a ShardcastError, e.g. TransactionUnknown."""
        if self._is_closed:
            raise NotOpen(what="producer")
        with renamed(self._endpoint):
            request = pb.EndTransactionRequest(transaction_id=transaction_id, outcome=outcome)
            await self._stub.EndTransaction(request, timeout=CALL_SECONDS, metadata=self._metadata)

    async def _keep_watching(self) -> None:
        async for start_over in backoff():
            try:
                with renamed(self._endpoint):
                    request = pb.WatchTransactionsRequest(producer_group=self.group)
                    async for asked in self._stub.WatchTransactions(request, metadata=self._metadata):
                        start_over()
                        await self._answer(asked)
            except ShardcastError as error:
                log.info("watch cut", extra={"action": "watch_retry", "group": self.group, "error": str(error)})

    async def _answer(self, asked: pb.WatchTransactionsResponse) -> None:
        if asked.transaction_id in self._open or self._check is None:
            return
        try:
            decided = await _ask(self._check, _message(asked))
            if decided is not None:
                await self.end(asked.transaction_id, pb.OUTCOME_COMMIT if decided else pb.OUTCOME_ROLLBACK)
        except Exception:  # whatever the check raises: it is asked again
            log.exception("check failed", extra={"action": "check_failed", "transaction": asked.transaction_id})


async def _ask(check: Check, message: Message) -> bool | None:
    """Raises TypeError for any other answer: what is only like True must commit nothing."""
    answer: object
    if inspect.iscoroutinefunction(check):
        answer = check(message)
    else:
        answer = await asyncio.to_thread(_called, check, message)
    if inspect.isawaitable(answer):  # a plain function may give one too
        answer = await _outcome(answer)
    if answer is None or isinstance(answer, bool):
        return answer
    raise TypeError(f"a check answers True, False or None, not {answer!r}")


async def _outcome(asking: Awaitable[object]) -> object:
    """A check that is cancelled, by whatever it does itself, shall not end the watch."""
    task = asyncio.ensure_future(asking)
    try:
        await asyncio.wait((task,))
    finally:
        task.cancel()
    if task.cancelled():
        raise RuntimeError("the check was cancelled")
    return task.result()


def _called(check: Callable[[Message], object], message: Message) -> object:
    try:
        return check(message)
    except BaseException as error:  # StopIteration no future takes, others would end the watch, or the event loop
        raise RuntimeError(f"the check raised {type(error).__name__}") from error


def _message(asked: pb.WatchTransactionsResponse) -> Message:
    return Message(
        asked.body,
        key=asked.key or None,
        tag=asked.tag or None,
        properties=dict(asked.properties) or NO_PROPERTIES,
        topic=asked.topic,
    )


class Transaction:
    """Messages that become visible together at the end of its block; rolled back when the block raises.

    When the process dies inside the block the broker asks a living producer of the group. The end of the block waits
    while the broker is away, and raises TransactionUnknown if it gave up before: its messages are in the topic
    %UNDECIDED%<group> then.
    """

    def __init__(self, transactions: Transactions, publish: Publish) -> None:
        self._transactions = transactions
        self._publish = publish
        self._id = uuid.uuid4().hex
        self._is_open = self._is_begun = self._has_messages = False

    async def __aenter__(self) -> Self:
        self._is_open = True
        self._transactions.begun(self._id)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        try:
            if not self._is_begun:
                return
            if error is None and self._has_messages:
                await self._transactions.commit(self._id)
            else:
                await self._roll_back()
        finally:
            self._transactions.left(self._id)

    async def publish(self, topic: str, message: Message) -> None:
        """Stores one message, invisible yet. Raises a ShardcastError, e.g. `too_large`."""
        await self.publish_batch(topic, [message])

    async def publish_batch(self, topic: str, messages: Sequence[Message]) -> None:
        """Stores messages, invisible yet; at most 8 MiB and 16,384 messages in one transaction, none of them delayed.

        Raises a ShardcastError, and then none of them is stored.
        """
        if not self._is_open:
            raise NotOpen(what="transaction")
        self._is_begun = True
        part = pb.TransactionPart(transaction_id=self._id, producer_group=self._transactions.group)
        await self._publish(topic, messages, part)
        self._has_messages = True

    async def _roll_back(self) -> None:
        """Tries once: what raised shall not wait for a broker that is away, which asks for the outcome then."""
        try:
            await self._transactions.end(self._id, pb.OUTCOME_ROLLBACK)
        except ShardcastError as error:
            log.info("rollback not answered", extra={"action": "rollback_failed", "error": str(error)})
