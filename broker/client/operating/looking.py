"""A look at messages that moves no group: by offset, by key, by time."""

from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from broker.client import convert
from broker.client.message import ReceivedMessage, to_ms
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import CALL_SECONDS, bearer, dial, renamed


class LookClient:
    """Looks at messages; an async context manager. Every call may raise a ShardcastError."""

    def __init__(self, endpoint: str, *, token: str = "") -> None:
        self._endpoint = endpoint
        self._metadata = bearer(token)
        self._channel = dial(endpoint)
        self._stub = BrokerServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def read(self, topic: str, queue: int, offset: int, limit: int) -> Sequence[ReceivedMessage]:
        """Messages of one queue from an offset on, up to `limit` of them or about 1 MiB.

        Raises OffsetOutOfRange, UnknownQueue, UnknownTopic.
        """
        request = pb.FetchRequest(topic=topic, queue=queue, offset=offset, max_messages=limit)
        with renamed(self._endpoint):
            response = await self._stub.Fetch(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return list(convert.batch(topic, queue, 0, response))

    async def find(self, topic: str, key: str, limit: int) -> Sequence[ReceivedMessage]:
        """Messages with this key, the latest first. Raises UnknownTopic."""
        request = pb.FindMessagesRequest(topic=topic, key=key, max_messages=limit)
        with renamed(self._endpoint):
            response = await self._stub.FindMessages(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return convert.scattered(topic, response.log_id, response.topic_id, response.messages)

    async def find_offsets(self, topic: str, at: datetime) -> Sequence[int]:
        """By queue: the offset of the first message stored at an aware instant or later. Raises UnknownTopic."""
        request = pb.FindOffsetsRequest(topic=topic, at_ms=to_ms(at))
        with renamed(self._endpoint):
            response = await self._stub.FindOffsets(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return tuple(response.offsets)
