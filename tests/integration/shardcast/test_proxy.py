"""The proxy between two ends that see only sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from shardcast.testing.proxy import Direction, Proxy

pytestmark = pytest.mark.anyio


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(1024):
            writer.write(piece)
    writer.close()


@asynccontextmanager
async def proxied() -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server, Proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as proxy:
        yield proxy


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = proxy.endpoint.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read(reader: asyncio.StreamReader, seconds: float = 5.0) -> bytes:
    """What comes next; b"" where the connection ended, however it did."""
    async with asyncio.timeout(seconds):
        try:
            return await reader.read(1024)
        except ConnectionError:
            return b""


async def is_silent(reader: asyncio.StreamReader) -> bool:
    try:
        return not await read(reader, 0.15)
    except TimeoutError:
        return True


async def test_bytes_and_ends_pass_in_both_directions() -> None:
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        writer.write(b"one")
        assert await read(reader) == b"one"
        assert proxy.connections == 1
        writer.write_eof()
        assert await read(reader) == b""


async def test_a_cut_breaks_what_is_open_and_what_is_dialled_until_it_is_restored() -> None:
    async with proxied() as proxy:
        async with connected(proxy) as (reader, writer):
            writer.write(b"one")
            assert await read(reader) == b"one"
            proxy.cut()
            assert await read(reader) == b""
        async with connected(proxy) as (reader, _):
            assert await read(reader) == b""
        proxy.restore()
        async with connected(proxy) as (reader, writer):
            writer.write(b"two")
            assert await read(reader) == b"two"


@pytest.mark.parametrize("directions", [(Direction.UP,), (Direction.DOWN,), ()])
async def test_what_a_freeze_held_goes_on_when_it_is_restored(directions: tuple[Direction, ...]) -> None:
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        writer.write(b"one")
        assert await read(reader) == b"one"
        proxy.freeze(*directions)
        writer.write(b"two")
        assert await is_silent(reader)
        proxy.restore()
        assert await read(reader) == b"two"


async def test_a_severed_freeze_loses_what_it_held() -> None:
    async with proxied() as proxy:
        async with connected(proxy) as (reader, writer):
            writer.write(b"one")
            assert await read(reader) == b"one"
            proxy.freeze(Direction.DOWN)
            writer.write(b"two")
            assert await is_silent(reader)
            proxy.sever()
            proxy.restore()
            assert await read(reader) == b""
        async with connected(proxy) as (reader, writer):
            writer.write(b"three")
            assert await read(reader) == b"three"


async def test_a_delay_holds_what_passes() -> None:
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        proxy.delay(0.2)
        begun_at = asyncio.get_running_loop().time()
        writer.write(b"one")
        assert await read(reader) == b"one"
        assert asyncio.get_running_loop().time() - begun_at >= 0.4


async def test_nothing_behind_it_is_a_connection_that_breaks() -> None:
    async with Proxy("127.0.0.1:1") as proxy, connected(proxy) as (reader, _):
        assert await read(reader) == b""
