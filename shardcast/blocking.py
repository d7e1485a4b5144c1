"""The SDK's blocking classes, made by shardcast/generate.py from the async ones: do not edit."""

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Literal, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from broker import client as aio
from broker.client import Batch, Check, Message, Receipt, Receipts, ReceivedMessage
from broker.errors import NotOpen

LOOP = {"use_uvloop": sys.platform != "win32"}


class Transaction:
    """Messages that become visible together at the end of its block; rolled back when the block raises.

    When the process dies inside the block the broker asks a living producer of the group. The end of the block waits
    while the broker is away, and raises TransactionUnknown if it gave up before: its messages are in the topic
    %UNDECIDED%<group> then.
    """

    def __init__(self, inner: aio.Transaction, portal: BlockingPortal) -> None:
        self._inner = inner
        self._portal = portal

    def __enter__(self) -> Self:
        self._context = self._portal.wrap_async_context_manager(self._inner)
        self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, trace)

    def _open_portal(self) -> BlockingPortal:
        return self._portal

    def publish(self, topic: str, message: Message) -> None:
        """Stores one message, invisible yet. Raises a ShardcastError, e.g. `too_large`."""
        return self._open_portal().call(self._inner.publish, topic, message)

    def publish_batch(self, topic: str, messages: Sequence[Message]) -> None:
        """Stores messages, invisible yet; at most 8 MiB and 16,384 messages in one transaction, none of them delayed.

        Raises a ShardcastError, and then none of them is stored.
        """
        return self._open_portal().call(self._inner.publish_batch, topic, messages)


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
        self._inner = aio.Producer(
            endpoint, group=group, check=check, token=token, window=window, connect_timeout=connect_timeout, clock=clock
        )
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(backend_options=LOOP))
            stack.enter_context(portal.wrap_async_context_manager(self._inner))
            self._portal, self._stack = portal, stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal = None
        self._stack.__exit__(kind, error, trace)

    def _open_portal(self) -> BlockingPortal:
        if self._portal is None:
            raise NotOpen(what="producer")
        return self._portal

    def publish(self, topic: str, message: Message) -> Receipt:
        """Publishes one message; those that wait at the same time travel together. Raises a ShardcastError, e.g.
        `too_large`.
        """
        return self._open_portal().call(self._inner.publish, topic, message)

    def publish_batch(self, topic: str, messages: Sequence[Message], *, queue: int | None = None) -> Receipts:
        """Publishes messages as one atomic unit and returns a receipt for each once durable.

        At most 8 MiB (`too_large`) and 65,536 messages (`too_many`). Those with equal keys share a queue and keep their
        order, unless all go into a `queue` of your choice. Raises a ShardcastError, and then none is stored.
        """
        return self._open_portal().call(partial(self._inner.publish_batch, topic, messages, queue=queue))

    def recall(self, receipt: Receipt) -> None:
        """Takes a delayed message back; waits while the broker is away, and asks again when an answer was lost.

        Raises HandleUnknown when it was delivered, RecalledBefore when it was recalled.
        """
        return self._open_portal().call(self._inner.recall, receipt)

    def transaction(self, *, check: Check | None = None) -> Transaction:
        """A block whose messages become visible together at its end, or not at all.

        `check(message)` tells the outcome of a transaction of the group that a dead process left open: True, False, or
        None for later. It holds for this producer from now on.
        """
        return Transaction(self._open_portal().call(partial(self._inner.transaction, check=check)), self._open_portal())


class Consumer:
    """Reads topics as one member of a consumer group; a context manager.

    By offset, `for batch in consumer: ...; consumer.commit(batch)` gives messages of one queue that follow each other,
    for ever; each queue belongs to one living member of the group. By lease each message goes to any member, for the
    time of `lease`, and is settled for itself: `acknowledge`, `retry`, `extend`, `give_back`, `give_up`. A group is
    read one way at a time. What was not committed or acknowledged comes again, with the same keys and ids.

    `start` says where a queue begins that the group never read: "earliest", "latest", or at an aware datetime. With
    `tags` only messages that have one of them come, the others count as done. `max_messages` of a batch are 1,000 by
    offset and 32 by lease, if it is not said. Opening raises Unreachable when nothing answers within `connect_timeout`;
    from then on it waits while the broker is away.
    """

    def __init__(
        self,
        endpoint: str,
        group: str,
        topics: Sequence[str],
        *,
        start: Literal["earliest", "latest"] | datetime = "earliest",
        mode: Literal["offset", "lease"] = "offset",
        tags: Sequence[str] = (),
        token: str = "",
        max_messages: int | None = None,
        lease: timedelta = timedelta(seconds=30),
        session_timeout: timedelta = timedelta(seconds=10),
        connect_timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        self._inner = aio.Consumer(
            endpoint,
            group,
            topics,
            start=start,
            mode=mode,
            tags=tags,
            token=token,
            max_messages=max_messages,
            lease=lease,
            session_timeout=session_timeout,
            connect_timeout=connect_timeout,
        )
        self._portal: BlockingPortal | None = None
        self._asking: tuple[BlockingPortal | None, Future[Batch] | None] = (None, None)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(backend_options=LOOP))
            stack.enter_context(portal.wrap_async_context_manager(self._inner))
            self._portal, self._stack = portal, stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal = None
        self._stack.__exit__(kind, error, trace)

    def _open_portal(self) -> BlockingPortal:
        if self._portal is None:
            raise NotOpen(what="consumer")
        return self._portal

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """The next batch; waits for it. Raises what makes reading impossible."""
        portal, (asked_of, asking), self._asking = self._open_portal(), self._asking, (None, None)
        if asking is None or asked_of is not portal:
            asking = portal.start_task_soon(self._inner.__anext__)
        try:
            return asking.result()
        except BaseException as error:  # its own, or a signal's: what was asked for is the next call's then
            if not (asking.done() and error is asking.exception()):
                self._asking = portal, asking
            raise

    def commit(self, batch: Batch, before: int | None = None) -> None:
        """By offset: says that the batch and all before it in its queue are done; durable on return.

        With `before`, an offset within the batch, only what lies before that one. Waits while the broker is away.
        Raises NotOwner when the queue has gone to another member, who gets what was not committed again.
        """
        return self._open_portal().call(self._inner.commit, batch, before)

    def acknowledge(self, *messages: ReceivedMessage | Batch) -> None:
        """By lease: says that messages, or all of batches, are done; durable on return.

        Those that are said at the same time travel together. Waits while the broker is away. Raises LeaseExpired when
        one of them was not leased to this member any more, and comes again; the others are done. The same holds for
        `retry`, `extend`, `give_back` and `give_up`.
        """
        return self._open_portal().call(self._inner.acknowledge, *messages)

    def retry(self, *messages: ReceivedMessage | Batch, after: timedelta | None = None, error: str = "") -> None:
        """By lease: says that messages failed; they come again after the group's backoff, or after that time, of 12 h
        at most.

        One that has no attempt left goes to the group's dead letters, with the last error.
        """
        return self._open_portal().call(partial(self._inner.retry, *messages, after=after, error=error))

    def extend(self, *messages: ReceivedMessage | Batch, by: timedelta) -> None:
        """By lease: keeps messages for that time more, from now on."""
        return self._open_portal().call(partial(self._inner.extend, *messages, by=by))

    def give_back(self, *messages: ReceivedMessage | Batch) -> None:
        """By lease: says that messages were not looked at: they are for anybody at once, the attempt does not count."""
        return self._open_portal().call(self._inner.give_back, *messages)

    def give_up(self, *messages: ReceivedMessage | Batch, error: str) -> None:
        """Puts messages into the group's dead letters, with how often they were tried and the error; durable on return.

        By offset it commits too, by the same write: they and all before them in their queue are done; what is committed
        already stays as it is. Waits while the broker is away. Raises NotOwner or LeaseExpired when one of them belongs
        to another member by now.
        """
        return self._open_portal().call(partial(self._inner.give_up, *messages, error=error))

    def pause(self, topic: str, queue: int) -> None:
        """By offset: fetches no more of this queue until `resume`; a few batches may be on their way."""
        return self._open_portal().call(self._inner.pause, topic, queue)

    def resume(self, topic: str, queue: int) -> None:
        """By offset: fetches of this queue again."""
        return self._open_portal().call(self._inner.resume, topic, queue)
