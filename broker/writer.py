"""The async face of the writer's thread: a command in, a future of its durable answer out, and no more than fits."""

import asyncio
from collections.abc import Callable, Sequence

from broker.delivery.room import Room
from broker.engine.commands import Command
from broker.engine.engine import Answer, Committed, Engine
from broker.engine.opening import Checkpointer, Die
from broker.errors import BrokerError
from broker.log.flush import GroupCommit
from broker.model import QueueKey

WAITING_BYTES = 64 << 20

Answering = asyncio.Future[Answer | BrokerError]
"""Done when the answer is durable; a refusal is a result, so that nobody has to look at it."""

_Waiting = tuple[Command, int, Answering]


class Writer:
    """Belongs to one event loop; `on_grown` is called there with the queues that have new messages."""

    def __init__(
        self, engine: Engine, checkpointer: Checkpointer, on_grown: Callable[[Sequence[QueueKey]], None], die: Die
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._checkpointer = checkpointer
        self._on_grown = on_grown
        self._room = Room(WAITING_BYTES)
        self._thread = GroupCommit[_Waiting](self._commit, die)

    async def submit(self, command: Command, size: int = 0) -> Answering:
        """Returns once the command is on its way; waits while too many bytes are before it."""
        await self._room.take(size)
        answering: Answering = self._loop.create_future()
        self._thread.submit((command, size, answering))
        return answering

    @property
    def waiting_bytes(self) -> int:
        """Of publishes that wait for their sync."""
        return self._room.taken

    async def stop(self) -> None:
        """Returns when everything submitted is durable and a checkpoint is stored."""
        await asyncio.to_thread(self._thread.stop)
        await asyncio.to_thread(self._checkpointer.close)

    def _commit(self, waiting: list[_Waiting]) -> None:
        """In the writer's thread: one group, one call back into the loop."""
        committed = self._engine.commit([command for command, _, _ in waiting])
        self._loop.call_soon_threadsafe(self._settle, waiting, committed)
        self._checkpointer.consider()

    def _settle(self, waiting: list[_Waiting], committed: Committed) -> None:
        for (_, size, answering), answer in zip(waiting, committed.answers, strict=True):
            self._room.give(size)
            if not answering.done():  # whoever asked may have gone
                answering.set_result(answer)
        self._on_grown(committed.grown)
