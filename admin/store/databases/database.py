"""What the stores need of a database: whole transactions, and its clock."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from admin.domain.errors import StoreUnavailable, Unstorable

T = TypeVar("T")
Work = Callable[[Connection], T]


class Database(Protocol):
    """Runs plain functions inside transactions, off the event loop. Close it."""

    async def write(self, work: Work[T]) -> T:
        """Runs the work in a transaction; when this returns it is durable. It may be run again from the start where
        the database gave the transaction up. Raises what it raises, having changed nothing, StoreUnavailable, or
        Unstorable.
        """

    async def read(self, work: Work[T]) -> T:
        """Runs work that only reads. Raises StoreUnavailable."""

    def now(self, connection: Connection) -> datetime:
        """The time by which leases and fire times are judged: whole milliseconds, UTC."""

    def close(self) -> None:
        """What was handed in is done first."""


@contextmanager
def renamed() -> Iterator[None]:
    """Turns the database's errors into ours."""
    try:
        yield
    except (DataError, IntegrityError) as error:
        raise Unstorable(reason=_reason(error)) from error
    except (DBAPIError, PoolTimeout) as error:
        raise StoreUnavailable(reason=_reason(error)) from error


def _reason(error: DBAPIError | PoolTimeout) -> str:
    return str(error.orig) if isinstance(error, DBAPIError | InterfaceError | OperationalError) else str(error)
