"""Topics and groups as an operator asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

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
    name: str
    topic_id: int
    queues: Sequence[QueueRange]

    @property
    def messages(self) -> int:
        return sum(queue.end - queue.lowest for queue in self.queues)


@dataclass(frozen=True, slots=True)
class QueueLag:
    """How far a group has read one queue; owner is a member id or ""."""

    topic: str
    queue: int
    owner: str
    committed: int
    end: int

    @property
    def lag(self) -> int:
        return self.end - self.committed


@dataclass(frozen=True, slots=True)
class GroupState:
    name: str
    members: Sequence[str]
    queues: Sequence[QueueLag]

    @property
    def lag(self) -> int:
        return sum(queue.lag for queue in self.queues)


class TopicClient:
    """Creates and describes topics and groups; an async context manager. Every call may raise a ShardcastError."""

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

    async def create(self, name: str, queues: int = 0) -> TopicState:
        """Creates it with so many queues, 0 being the broker's default; one that is there already is fine."""
        with renamed(self._endpoint):
            request = pb.CreateTopicRequest(name=name, queues=queues)
            response = await self._stub.CreateTopic(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return _topic(response.topic)

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

    async def group(self, name: str) -> GroupState:
        with renamed(self._endpoint):
            request = pb.GetGroupRequest(group=name)
            response = await self._stub.GetGroup(request, timeout=CALL_SECONDS, metadata=self._metadata)
        members = tuple(member.member_id for member in response.group.members)
        queues = tuple(
            QueueLag(queue.topic, queue.queue, queue.owner, queue.committed_offset, queue.end_offset)
            for queue in response.group.queues
        )
        return GroupState(response.group.name, members, queues)


def _topic(topic: pb.Topic) -> TopicState:
    queues = tuple(QueueRange(queue.lowest_offset, queue.end_offset) for queue in topic.queues)
    return TopicState(topic.name, topic.topic_id, queues)
