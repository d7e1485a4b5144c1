"""The consumer: one member of a consumer group, which reads by offset or by lease."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Literal, Self

from broker.client.consuming.by_lease import LeaseReader
from broker.client.consuming.by_offset import OffsetReader
from broker.client.consuming.member import Member, Reads, log
from broker.client.consuming.settling import Verb
from broker.client.endpoint import checked
from broker.client.message import Batch, ReceivedMessage
from broker.client.unfit import (
    check_batch,
    check_name,
    check_settled,
    checked_count,
    checked_milliseconds,
    checked_names,
    sendable,
)
from broker.errors import BadRequest, NotOpen
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import bearer, dial
from protos.errors import ShardcastError, Unreachable

_MAX_MESSAGES = {"offset": 1_000, "lease": 32}
_LEAVE_SECONDS = 1.0


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
        if mode not in _MAX_MESSAGES:
            raise BadRequest(reason=f"mode is {mode!r}; it can be offset or lease")
        self._endpoint = checked(endpoint)
        self._metadata = bearer(token)
        check_name(group, "the group")
        topics, tags = checked_names(topics, "topics"), checked_names(tags, "tags")
        if not topics:
            raise BadRequest(reason="a consumer reads at least one topic")
        most = checked_count(max_messages or _MAX_MESSAGES[mode], "max_messages")
        self._reads = Reads(group, topics, start, tags, most)
        self._mode = mode
        self._lease_ms = checked_milliseconds(lease, "lease", 1)
        self._session_timeout_ms = checked_milliseconds(session_timeout, "session_timeout", 1)
        self._connect_seconds = connect_timeout.total_seconds()
        self._failure: Exception | None = None  # once reading is impossible it stays so
        self._is_open = False

    async def __aenter__(self) -> Self:
        self._channel = dial(self._endpoint)
        member = Member(self._reads, self._endpoint, BrokerServiceStub(self._channel), self._metadata)
        self._member = member
        self._reader = (
            LeaseReader(member, self._lease_ms)
            if self._mode == "lease"
            else OffsetReader(member, self._session_timeout_ms)
        )
        try:
            async with asyncio.timeout(self._connect_seconds):
                await self._reader.open()
        except BaseException as error:
            await self._reader.close()
            await self._channel.close()
            if isinstance(error, TimeoutError):
                raise Unreachable(address=self._endpoint) from error
            raise
        self._failure, self._is_open = None, True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_open:  # it is closed
            return
        self._is_open = False
        await self._reader.close()
        member = self._member
        request = pb.LeaveGroupRequest(group=self._reads.group, member_id=member.member_id)
        try:
            await member.ask(lambda: member.stub.LeaveGroup(request, timeout=_LEAVE_SECONDS, metadata=member.metadata))
        except ShardcastError as failed:
            extra = {"action": "leave_failed", "group": self._reads.group, "error": str(failed)}
            log.info("left without a word", extra=extra)
        await self._channel.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        """The next batch; waits for it. Raises what makes reading impossible."""
        self._check_open()
        if self._failure is not None:
            raise self._failure
        try:
            return await self._reader.next()
        except Exception as error:
            self._failure = error
            raise

    async def commit(self, batch: Batch, before: int | None = None) -> None:
        """By offset: says that the batch and all before it in its queue are done; durable on return.

        With `before`, an offset within the batch, only what lies before that one. Waits while the broker is away.
        Raises NotOwner when the queue has gone to another member, who gets what was not committed again.
        """
        reader = self._by_offset()
        check_batch(batch)
        await reader.commit(batch, before)

    async def acknowledge(self, *messages: ReceivedMessage | Batch) -> None:
        """By lease: says that messages, or all of batches, are done; durable on return.

        Those that are said at the same time travel together. Waits while the broker is away. Raises LeaseExpired when
        one of them was not leased to this member any more, and comes again; the others are done. The same holds for
        `retry`, `extend`, `give_back` and `give_up`.
        """
        await self._say(Verb(pb.ACTION_ACKNOWLEDGE), messages)

    async def retry(self, *messages: ReceivedMessage | Batch, after: timedelta | None = None, error: str = "") -> None:
        """By lease: says that messages failed; they come again after the group's backoff, or after that time, of 12 h
        at most.

        One that has no attempt left goes to the group's dead letters, with the last error.
        """
        after_ms = None if after is None else checked_milliseconds(after, "after")
        await self._say(Verb(pb.ACTION_RETRY, after_ms, sendable(error)), messages)

    async def extend(self, *messages: ReceivedMessage | Batch, by: timedelta) -> None:
        """By lease: keeps messages for that time more, from now on."""
        await self._say(Verb(pb.ACTION_EXTEND, checked_milliseconds(by, "by", 1)), messages)

    async def give_back(self, *messages: ReceivedMessage | Batch) -> None:
        """By lease: says that messages were not looked at: they are for anybody at once, the attempt does not count."""
        await self._say(Verb(pb.ACTION_RETURN), messages)

    async def give_up(self, *messages: ReceivedMessage | Batch, error: str) -> None:
        """Puts messages into the group's dead letters, with how often they were tried and the error; durable on return.

        By offset it commits too, by the same write: they and all before them in their queue are done; what is committed
        already stays as it is. Waits while the broker is away. Raises NotOwner or LeaseExpired when one of them belongs
        to another member by now.
        """
        if isinstance(self._reader, LeaseReader):
            await self._say(Verb(pb.ACTION_GIVE_UP, error=sendable(error)), messages)
        else:
            check_settled(messages)
            await self._by_offset().give_up(_flat(messages), sendable(error))

    def pause(self, topic: str, queue: int) -> None:
        """By offset: fetches no more of this queue until `resume`; a few batches may be on their way."""
        self._by_offset().pause(topic, queue)

    def resume(self, topic: str, queue: int) -> None:
        """By offset: fetches of this queue again."""
        self._by_offset().resume(topic, queue)

    async def _say(self, verb: Verb, messages: Sequence[ReceivedMessage | Batch]) -> None:
        self._check_open()
        if not isinstance(self._reader, LeaseReader):
            raise BadRequest(reason="this consumer reads by offset: commit its batches")
        check_settled(messages)
        await self._reader.settling.say(verb, messages)

    def _by_offset(self) -> OffsetReader:
        self._check_open()
        if not isinstance(self._reader, OffsetReader):
            raise BadRequest(reason="this consumer reads by lease: acknowledge its messages")
        return self._reader

    def _check_open(self) -> None:
        if not self._is_open:
            raise NotOpen(what="consumer")


def _flat(messages: Sequence[ReceivedMessage | Batch]) -> list[ReceivedMessage]:
    return [each for given in messages for each in (given if isinstance(given, Batch) else [given])]
