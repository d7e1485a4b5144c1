"""Joins consumer groups of the broker."""

import uuid
from contextlib import AbstractAsyncContextManager

from broker.client.consumer import Consumer
from broker.client.operating.groups import GroupClient
from broker.client.publishing.shard_producer import ShardProducer
from broker.model import GroupPolicy
from executor.registry import Listener

READ_AHEAD = 1_000  # messages of one fetch, where calls take one at a time
RELAY_READ_AHEAD = 100  # where each of them may lead to many


class BrokerGroups:
    """The groups of one broker."""

    def __init__(self, endpoint: str, token: str) -> None:
        self._endpoint = endpoint
        self._token = token

    def by_offset(self, listener: Listener) -> AbstractAsyncContextManager[Consumer]:
        ahead = READ_AHEAD if listener.to is None else RELAY_READ_AHEAD
        return self._join(listener, ahead if listener.takes_one else listener.max_messages)

    def by_lease(self, listener: Listener) -> AbstractAsyncContextManager[Consumer]:
        return self._join(listener, listener.slots if listener.takes_one else listener.max_messages)

    def _join(self, listener: Listener, max_messages: int) -> Consumer:
        return Consumer(
            self._endpoint,
            listener.group,
            listener.topics,
            mode=listener.mode.value,
            token=self._token,
            max_messages=max_messages,
            tags=listener.tags,
            start=listener.start,
            lease=listener.lease,
        )

    def producer(self, producer_id: str, term: int) -> AbstractAsyncContextManager[ShardProducer]:
        """For a holder that is new each time."""
        return ShardProducer(self._endpoint, producer_id, term=term, holder_id=uuid.uuid4().hex, token=self._token)

    async def policy(self, group: str) -> GroupPolicy:
        """As it is now: it may be altered while a message is tried."""
        async with GroupClient(self._endpoint, token=self._token) as groups:
            return (await groups.get(group)).policy
