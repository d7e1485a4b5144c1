"""Rings carried by the PostgreSQL that the admins share: LISTEN and NOTIFY over two connections of their own."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from socket import SHUT_RDWR, socket
from typing import Any

from psycopg import AsyncConnection, sql

from admin.wakeup.shared import SharedWakeup


@dataclass(frozen=True, slots=True)
class PostgresConnection:
    """Implements Connection."""

    _saying: AsyncConnection[Any]
    _hearing: AsyncConnection[Any]
    _channel: str

    async def send(self, message: str) -> None:
        notify = asyncio.ensure_future(self._saying.execute("SELECT pg_notify(%s, %s)", (self._channel, message)))
        try:
            await asyncio.shield(notify)
        except asyncio.CancelledError:
            _hang_up(self._saying)  # were the query cancelled, psycopg would ask the server to stop it, and wait
            await asyncio.gather(notify, return_exceptions=True)
            raise

    async def received(self) -> AsyncIterator[str]:
        async for notification in self._hearing.notifies():
            yield notification.payload


def _hang_up(connection: AsyncConnection[Any]) -> None:
    """Ends what is waited for on the connection. It is not closed: libuv ends the process over a file that is closed
    while it is waited for.
    """
    with suppress(OSError), socket(fileno=os.dup(connection.fileno())) as own:
        own.shutdown(SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class PostgresCarrier:
    """Implements Carrier."""

    url: str
    channel: str

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[PostgresConnection]:
        """Two connections: one that waits for notifications cannot send any."""
        async with (
            await AsyncConnection.connect(self.url, autocommit=True) as saying,
            await AsyncConnection.connect(self.url, autocommit=True) as hearing,
        ):
            await hearing.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self.channel)))
            yield PostgresConnection(saying, hearing, self.channel)


class PostgresWakeup(SharedWakeup):
    """Implements Wakeup for the admins that share a database; `url` as SQLAlchemy or libpq writes it."""

    def __init__(self, url: str, namespace: str) -> None:
        _, _, place = url.partition("://")
        super().__init__(PostgresCarrier(f"postgresql://{place}", f"{namespace}:wakeup"))
