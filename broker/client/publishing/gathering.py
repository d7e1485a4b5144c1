"""Single publishes that wait at the same time travel as one, each with a receipt and a refusal of its own."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from broker.client.message import Message
from broker.client.publishing.receipts import STORED_BEFORE, Receipt, Receipts
from broker.errors import BadRequest, DelayTooLong, TooLarge

SENDERS = 4  # so many publishes side by side never wait for each other
GROUP_MESSAGES = 1_000
GROUP_BYTES = 1 << 20  # of bodies, as long as there is more than one

_OF_ONE = (BadRequest, TooLarge, DelayTooLong)
"""What a single message may be refused for; everything else is as true for those beside it."""

PublishBatch = Callable[[Sequence[Message]], Awaitable[Receipts]]
"""Stores messages as one atomic unit."""


@dataclass(frozen=True, slots=True)
class _Single:
    message: Message
    size: int
    receipt: asyncio.Future[Receipt]


class Gathering:
    """The single publishes to one topic. Nobody waits for company: while few are under way each goes at once, and what
    comes while `SENDERS` publishes are under way goes together with the next of them."""

    def __init__(self, publish_batch: PublishBatch) -> None:
        self._publish_batch = publish_batch
        self._waiting: deque[_Single] = deque()
        self._senders: set[asyncio.Task[None]] = set()

    async def publish(self, message: Message) -> Receipt:
        """Raises what `publish_batch` raises for this message alone."""
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Single(message, len(message.body), receipt))
        if len(self._senders) < SENDERS:
            sender = asyncio.create_task(self._keep_sending())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        return await receipt

    async def close(self) -> None:
        """Gives up what is not acknowledged."""
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        _give_up(self._waiting)

    async def _keep_sending(self) -> None:
        while group := self._take():
            try:
                await self._send(group)
            finally:
                _give_up(group)

    def _take(self) -> list[_Single]:
        """The next ones that somebody still waits for, as many as make a good request."""
        taken: list[_Single] = []
        size = 0
        while self._waiting and len(taken) < GROUP_MESSAGES:
            size += self._waiting[0].size
            if taken and size > GROUP_BYTES:
                break
            single = self._waiting.popleft()
            if not single.receipt.done():
                taken.append(single)
        return taken

    async def _send(self, group: Sequence[_Single]) -> None:
        try:
            receipts = await self._publish_batch([single.message for single in group])
        except Exception as error:
            if len(group) > 1 and isinstance(error, _OF_ONE):  # whose fault it was shows when each goes alone
                for single in group:
                    await self._send([single])
            for single in group:
                _settle(single, error)
        else:
            for single, receipt in zip(group, receipts or [STORED_BEFORE] * len(group), strict=True):
                _settle(single, receipt)


def _settle(single: _Single, outcome: Receipt | Exception) -> None:
    if single.receipt.done():  # whoever asked has gone
        return
    if isinstance(outcome, Receipt):
        single.receipt.set_result(outcome)
    else:
        single.receipt.set_exception(outcome)


def _give_up(group: Sequence[_Single]) -> None:
    for single in group:
        single.receipt.cancel()
