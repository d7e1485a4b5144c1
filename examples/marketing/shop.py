"""What everything in the system shares while a process lives: settings, database, limits, the way to the admin."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from examples.marketing.settings import Settings
from examples.marketing.store.database import Database
from shardcast import Limits
from shardcast.rest import RestClient


@dataclass(frozen=True, slots=True)
class Shop:
    """`clock` gives aware UTC."""

    settings: Settings
    database: Database
    limits: Limits
    clock: Callable[[], datetime]

    @property
    def now_ms(self) -> int:
        return round(self.clock().timestamp() * 1000)

    def admin(self) -> RestClient:
        """A client of the admin; a context manager."""
        token = self.settings.admin.token_file
        return RestClient(self.settings.admin.server, token.read_text().strip() if token else "")


@contextmanager
def opened(settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[Shop]:
    """Makes missing tables first."""
    database = Database(settings.database)
    limits = Limits(settings.limits or settings.database)
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
