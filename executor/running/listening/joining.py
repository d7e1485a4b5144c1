"""Joins consumer groups of the broker."""

from contextlib import AbstractAsyncContextManager

from broker.client.consumer import Consumer
from broker.client.operating.groups import GroupClient
from broker.model import GroupPolicy
from executor.registry import Listener

READ_AHEAD = 1_000  # messages of one fetch, where calls take one at a time


class BrokerGroups:
    """The groups of one broker."""

    def __init__(self, endpoint: str, token: str) -> None:
        self._endpoint = endpoint
        self._token = token

    def by_offset(self, listener: Listener) -> AbstractAsyncContextManager[Consumer]:
        return self._join(listener, READ_AHEAD if listener.takes_one else listener.max_messages)

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

    async def policy(self, group: str) -> GroupPolicy:
        """As it is now: it may be altered while a message is tried."""
        async with GroupClient(self._endpoint, token=self._token) as groups:
            return (await groups.get(group)).policy
