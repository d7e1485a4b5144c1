"""What everything in the system shares while a process lives: settings, database, limits, the way to the admin."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from sqlalchemy.exc import ArgumentError

from examples.marketing.errors import BadSettings
from examples.marketing.settings import Settings
from examples.marketing.store.database import Database
from shardcast import Limits, ShardcastError
from shardcast.rest import RestClient

Clock: TypeAlias = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Shop:
    """`clock` gives aware UTC."""

    settings: Settings
    database: Database
    limits: Limits
    clock: Clock

    @property
    def now_ms(self) -> int:
        return round(self.clock().timestamp() * 1000)

    def admin(self) -> RestClient:
        """A client of the admin; a context manager. Raises BadSettings where the token's file holds none."""
        file = self.settings.admin.token_file
        try:
            token = file.read_text().strip() if file else ""
        except OSError as error:
            raise BadSettings(where=file, reason=f"{error.strerror}.") from error
        except ValueError as error:
            raise BadSettings(where=file, reason="it holds no token.") from error
        if not (token.isascii() and token.isprintable()):  # no header could carry it
            raise BadSettings(where=file, reason="it holds no token.")
        return RestClient(self.settings.admin.server, token)


@contextmanager
def opened(settings: Settings, clock: Clock = utc_now) -> Iterator[Shop]:
    """Makes missing tables first. Raises BadSettings."""
    try:
        database = Database(settings.database)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise BadSettings(where="database", reason=f"{error}.") from error
    try:
        limits = Limits(settings.limits or settings.database, now=clock)
    except ShardcastError as error:
        raise BadSettings(where="limits", reason=str(error)) from error
    try:
        database.create()
        yield Shop(settings, database, limits, clock)
    finally:
        limits.close()
        database.close()


@asynccontextmanager
async def lifespan() -> AsyncIterator[Shop]:
    """Of an executor, with the settings of its environment. Raises BadSettings."""
    with opened(Settings.load()) as shop:
        yield shop


def the_shop(state: Shop) -> Shop:
    """For `Depends`."""
    return state
