"""Topics as an operator asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from broker.model import TopicPolicy
from broker.policies import from_topic_policy, to_topic_policy
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import CALL_SECONDS, bearer, dial, renamed


@dataclass(frozen=True, slots=True)
class QueueRange:
    """Offsets `lowest` up to, not including, `end` are stored."""

    lowest: int
    end: int


@dataclass(frozen=True, slots=True)
class TopicState:
    """Queues by number, as many as can be read; those from `write_queues` on only empty themselves.

    `messages` counts those that are there, dead letters that were sent again or purged left out, `delayed` those that
    are not due yet; `published_per_second` is over the last minute.
    """

    name: str
    topic_id: int
    queues: Sequence[QueueRange]
    write_queues: int
    policy: TopicPolicy
    delayed: int
    published_per_second: float
    messages: int


class TopicClient:
    """Creates and describes topics; an async context manager. Every call may raise a ShardcastError."""

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

    async def create(self, name: str, queues: int = 0, policy: TopicPolicy | None = None) -> TopicState:
        """Creates it with so many queues, 0 being the broker's default; the same one that is there already is fine.

        Raises BadName, BadRequest, and TopicExists for another number of queues or, where one is given, policy.
        """
        with renamed(self._endpoint):
            request = pb.CreateTopicRequest(
                name=name, queues=queues, policy=from_topic_policy(policy) if policy else None
            )
            response = await self._stub.CreateTopic(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return _topic(response.topic)

    async def alter(
        self, name: str, *, write_queues: int = 0, read_queues: int = 0, policy: TopicPolicy | None = None
    ) -> TopicState:
        """Changes what is given, whole or not at all; 0 and None leave as it is.

        Raises UnknownTopic, BadRequest, and QueueNotDrained while a group has not read a queue that would go.
        """
        with renamed(self._endpoint):
            request = pb.AlterTopicRequest(
                name=name,
                write_queues=write_queues,
                read_queues=read_queues,
                policy=from_topic_policy(policy) if policy else None,
            )
            response = await self._stub.AlterTopic(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return _topic(response.topic)

    async def delete(self, name: str) -> None:
        """Deletes it with its messages, and what groups know of it. Raises UnknownTopic."""
        with renamed(self._endpoint):
            request = pb.DeleteTopicRequest(name=name)
            await self._stub.DeleteTopic(request, timeout=CALL_SECONDS, metadata=self._metadata)

    async def get(self, name: str) -> TopicState:
        with renamed(self._endpoint):
            request = pb.GetTopicRequest(name=name)
            response = await self._stub.GetTopic(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return _topic(response.topic)

    async def list(self) -> list[TopicState]:
        with renamed(self._endpoint):
            request = pb.ListTopicsRequest()
            response = await self._stub.ListTopics(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return [_topic(topic) for topic in response.topics]


def _topic(topic: pb.Topic) -> TopicState:
    return TopicState(
        topic.name,
        topic.topic_id,
        tuple(QueueRange(queue.lowest_offset, queue.end_offset) for queue in topic.queues),
        topic.write_queues,
        to_topic_policy(topic.policy),
        topic.delayed,
        topic.published_per_second,
        topic.messages,
    )
