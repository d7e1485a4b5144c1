"""Limits over every kind of store, with time that a test can let pass."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from redis import Redis

from executor.limits.limits import Limits
from executor.limits.sql.tables import METADATA
from tests.support.admin_databases import fresh_database
from tests.support.redis_server import running_redis

SQL_KINDS = ("sqlite", "postgresql", "mariadb", "mysql")
SHARED_KINDS = (*SQL_KINDS, "redis")
KINDS = ("memory", *SHARED_KINDS)


class Clock:
    """Of stores that have none of their own; it stands where it began until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)  # near that of a process which a test starts

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Installation:
    """One store, and all that share it."""

    url: str
    open: Callable[[], Limits]
    """Another one that shares it, as another process would."""
    pass_time: Callable[[timedelta], None]


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


# One database of a server for all tests of limits: to make one for each takes longer than the tests.


@pytest.fixture(scope="session")
def postgresql_limits(postgresql_server: str) -> Iterator[str]:
    with fresh_database(postgresql_server) as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_limits(mariadb_server: str) -> Iterator[str]:
    with fresh_database(mariadb_server) as url:
        yield url


@pytest.fixture(scope="session")
def mysql_limits(mysql_server: str) -> Iterator[str]:
    with fresh_database(mysql_server) as url:
        yield url


@contextmanager
def installed(kind: str, request: pytest.FixtureRequest, directory: Path) -> Iterator[Installation]:
    """An empty store of a kind; skips the test where the machine has none."""
    with ExitStack() as stack:
        clock = Clock()
        if kind == "memory":
            limits = Limits("memory://", now=clock)
            yield Installation("memory://", lambda: limits, lambda by: _advance(clock, by))
        elif kind == "redis":
            url = request.getfixturevalue("redis_url")
            client = stack.enter_context(closing(Redis.from_url(url)))
            client.flushall()
            yield Installation(url, lambda: _opened(stack, url, clock), lambda by: _age_redis(client, by))
        elif kind == "sqlite":
            url = f"sqlite:///{directory / 'limits.db'}"
            yield Installation(url, lambda: _opened(stack, url, clock), lambda by: _advance(clock, by))
        else:
            url = request.getfixturevalue(f"{kind}_limits")
            _empty(url)
            yield Installation(url, lambda: _opened(stack, url, clock), lambda by: _age_database(url, by))


def _opened(stack: ExitStack, url: str, clock: Clock) -> Limits:
    return stack.enter_context(closing(Limits(url, now=clock)))


def _empty(url: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    known = set(sa.inspect(engine).get_table_names())
    with engine.begin() as connection:
        for table in METADATA.sorted_tables:
            if table.name in known:
                connection.execute(sa.delete(table))


def _advance(clock: Clock, by: timedelta) -> None:
    clock.now += by


def _age_database(url: str, by: timedelta) -> None:
    """A server's clock goes its own way: all that it keeps gets older instead."""
    us = by // timedelta(microseconds=1)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    if not sa.inspect(engine).has_table("shardcast_once"):  # nobody has asked yet
        return
    with engine.begin() as connection:
        for table in METADATA.sorted_tables:
            instants = [column for column in table.c if column.name.endswith("_us")]
            connection.execute(sa.update(table).values({column: column - us for column in instants}))
        caps = METADATA.tables["shardcast_caps"]
        for name, hits in connection.execute(sa.select(caps.c.name, caps.c.hits)).all():
            older = " ".join(str(int(at) - us) for at in hits.split())
            connection.execute(sa.update(caps).where(caps.c.name == name).values(hits=older))


def _age_redis(client: Redis, by: timedelta) -> None:
    us = by // timedelta(microseconds=1)
    for key in client.scan_iter():
        left = client.pttl(key) - us // 1000
        if left <= 0:
            client.delete(key)
            continue
        if client.type(key) == b"list":
            for index, at in enumerate(client.lrange(key, 0, -1)):
                client.lset(key, index, str(int(at) - us))
        else:
            words = client.get(key).decode().split()
            words[-1] = str(int(words[-1]) - us) if words[-1].isdigit() else words[-1]
            client.set(key, " ".join(words))
        client.pexpire(key, left)
