"""A TCP proxy that does to a link what networks do: breaks it, goes silent in one direction, gets slow."""

import asyncio
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Self

_PIECE_BYTES = 1 << 16

Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]


class Direction(Enum):
    """Where bytes go: UP from those who dial to the address behind the proxy, DOWN from it to them."""

    UP = "up"
    DOWN = "down"


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes everything on to `target`, "host:port"; an async context manager.

    Belongs to one event loop: none of its methods may be called from another thread.
    """

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._is_cut = False
        self._delay_seconds = 0.0
        self._flows = {direction: asyncio.Event() for direction in Direction}
        self._pairs: set[Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.endpoint = ""
        """ "host:port" to dial in place of the target."""

    async def __aenter__(self) -> Self:
        self.restore()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.endpoint = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many are open through the proxy."""
        return len(self._pairs)

    def cut(self) -> None:
        """Breaks all connections, and each new one at once, until `restore`."""
        self._is_cut = True
        self.sever()

    def sever(self) -> None:
        """Breaks all connections once; what was on its way is lost. New ones are served."""
        for pair in self._pairs:
            for writer in pair:
                writer.transport.abort()

    def freeze(self, *directions: Direction) -> None:
        """Holds back what goes in these directions (both, if none is named) until `restore`, ends of connections too.

        The connections stay, as when a machine between hangs. `sever` before `restore` loses what was held.
        """
        for direction in directions or Direction:
            self._flows[direction].clear()

    def delay(self, seconds: float) -> None:
        """Holds each piece, of 64 KiB at most, for so long in both directions, until `restore`."""
        self._delay_seconds = seconds

    def restore(self) -> None:
        """Serves as at the start; what `freeze` held goes on."""
        self._is_cut, self._delay_seconds = False, 0.0
        for flow in self._flows.values():
            flow.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            try:
                if not self._is_cut:
                    far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
                    await self._join(reader, writer, far_reader, far_writer)
            finally:
                writer.transport.abort()

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        pair = (writer, far_writer)
        self._pairs.add(pair)
        if self._is_cut:  # since it was dialled
            self.sever()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer, Direction.UP))
                group.create_task(self._pump(far_reader, writer, Direction.DOWN))
        except* OSError:  # either end is gone: so is the other
            pass
        finally:
            self._pairs.discard(pair)
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        is_open = True
        while is_open:
            piece = await reader.read(_PIECE_BYTES)
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            await self._flows[direction].wait()
            if is_open := bool(piece):
                writer.write(piece)
                await writer.drain()
            elif not writer.is_closing():
                writer.write_eof()
