"""A broker that is away, told so that nobody takes it for the admin."""

from collections.abc import Awaitable
from typing import TypeVar

from admin.domain.errors import BrokerAway
from protos.errors import Unreachable

T = TypeVar("T")


async def asked(answer: Awaitable[T]) -> T:
    """The broker's answer. Raises what it refuses with, TimedOut, and BrokerAway where nothing answers."""
    try:
        return await answer
    except Unreachable as error:
        raise BrokerAway(**error.fields) from error
