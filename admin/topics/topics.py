"""The port Topics over the broker's client."""

from collections.abc import Sequence
from datetime import datetime

from admin.topics.asking import asked
from broker.client.message import ReceivedMessage
from broker.client.operating.broker import BrokerClient, BrokerState
from broker.client.operating.looking import LookClient
from broker.client.operating.topics import TopicClient, TopicState
from broker.model import TopicPolicy


class BrokerTopics:
    """Asks the broker, each time: nothing is kept here."""

    def __init__(self, broker: BrokerClient, topics: TopicClient, looks: LookClient) -> None:
        self._broker = broker
        self._topics = topics
        self._looks = looks

    async def broker(self) -> BrokerState:
        return await asked(self._broker.describe())

    async def list(self) -> Sequence[TopicState]:
        return await asked(self._topics.list())

    async def get(self, name: str) -> TopicState:
        return await asked(self._topics.get(name))

    async def create(self, name: str, queues: int, policy: TopicPolicy | None) -> TopicState:
        return await asked(self._topics.create(name, queues, policy))

    async def alter(self, name: str, *, write_queues: int, read_queues: int, policy: TopicPolicy | None) -> TopicState:
        return await asked(self._topics.alter(name, write_queues=write_queues, read_queues=read_queues, policy=policy))

    async def delete(self, name: str) -> None:
        await asked(self._topics.delete(name))

    async def read(self, name: str, queue: int, offset: int, limit: int) -> Sequence[ReceivedMessage]:
        return await asked(self._looks.read(name, queue, offset, limit))

    async def find(self, name: str, key: str, limit: int) -> Sequence[ReceivedMessage]:
        return await asked(self._looks.find(name, key, limit))

    async def find_offsets(self, name: str, at: datetime) -> Sequence[int]:
        return await asked(self._looks.find_offsets(name, at))
