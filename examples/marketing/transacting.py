"""One transaction over the database and the broker, for the API.

The event goes to the broker first, where nobody sees it; then the database is changed; then the event is let out. Who
dies in between leaves it to the broker, which asks a living process for the outcome.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from examples.marketing.errors import BrokerAway
from shardcast import Message, aio

GROUP = "marketing"
"""Of the producers that may be asked."""

BROKER_SECONDS = 5.0
"""What a call waits for the broker at each of its two steps."""

T = TypeVar("T")


async def transact(producer: aio.Producer, topic: str, message: Message, change: Callable[[], T]) -> T:
    """Calls `change`, which commits to the database, in a thread; the message follows for certain.

    Raises what it raises, and BrokerAway; then there is no message.
    """
    loop, changed = asyncio.get_running_loop(), list[T]()
    try:
        async with asyncio.timeout(BROKER_SECONDS) as limit, producer.transaction() as transaction:
            await transaction.publish(topic, message)
            limit.reschedule(None)
            changed.append(await _to_its_end(change))
            limit.reschedule(loop.time() + BROKER_SECONDS)
    except TimeoutError as error:
        if not changed:
            raise BrokerAway from error
    return changed[0]  # where the broker went away meanwhile it asks once it is back


async def _to_its_end(work: Callable[[], T]) -> T:
    """What a thread makes of it, also where this call is cancelled meanwhile: the event must not be taken back from
    under a change that is being committed."""
    doing = asyncio.get_running_loop().run_in_executor(None, work)
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError:
            continue
    return doing.result()
