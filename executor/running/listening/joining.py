"""Joins consumer groups of the broker."""

from contextlib import AbstractAsyncContextManager

from broker.client.consumer import Consumer
from broker.client.groups import GroupClient
from broker.model import GroupPolicy
from executor.registry import Listener
from executor.running.listening.in_order import OffsetConsumer
from executor.running.listening.side_by_side import LeaseConsumer
from protos.errors import NotSupported

READ_AHEAD = 1_000  # messages of one fetch, where calls take one at a time


class BrokerGroups:
    """The groups of one broker."""

    def __init__(self, endpoint: str, token: str) -> None:
        self._endpoint = endpoint
        self._token = token

    def by_offset(self, listener: Listener) -> AbstractAsyncContextManager[OffsetConsumer]:
        most = READ_AHEAD if listener.takes_one else listener.max_messages
        return Consumer(self._endpoint, listener.group, listener.topics, token=self._token, max_messages=most)

    def by_lease(self, listener: Listener) -> AbstractAsyncContextManager[LeaseConsumer]:
        raise NotSupported(feature="a listener that reads by lease")

    async def policy(self, group: str) -> GroupPolicy:
        """As it is now: it may be altered while a message is tried."""
        async with GroupClient(self._endpoint, token=self._token) as groups:
            return (await groups.get(group)).policy
