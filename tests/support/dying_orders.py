"""The listeners of cancelled orders in a process that kills itself: behind so many effects, at the worst moments."""

import os
import signal
from collections.abc import Callable
from itertools import count
from typing import Annotated

from sqlalchemy import Connection

from examples.marketing.orders import listening
from examples.marketing.shop import Shop, lifespan, the_shop
from examples.marketing.topics import ORDER_CANCELED
from shardcast import Depends, Executor, Message

WHEN, AFTER = "DYING_WHEN", "DYING_AFTER"
UNACKNOWLEDGED, UNCOMMITTED = "unacknowledged", "uncommitted"
"""Committed to the database and not yet told to the broker / written and not yet committed."""

_effects = count(1)
_is_first = listening.is_first


def _die_when_due(moment: str) -> None:
    if os.environ.get(WHEN) == moment and next(_effects) >= int(os.environ[AFTER]):
        os.kill(os.getpid(), signal.SIGKILL)


def _dying_in_between(connection: Connection, group: str, event_id: str) -> bool:
    is_first = _is_first(connection, group, event_id)
    _die_when_due(UNCOMMITTED)
    return is_first


def _dying_behind(listener: Callable[[Message, Shop], None]) -> Callable[[Message, Shop], None]:
    def listen(message: Message, shop: Annotated[Shop, Depends(the_shop)]) -> None:
        listener(message, shop)
        _die_when_due(UNACKNOWLEDGED)

    return listen


if WHEN in os.environ:
    listening.is_first = _dying_in_between
app = Executor("marketing", lifespan=lifespan)
for name, function in listening.LISTENERS.items():
    app.consumer(ORDER_CANCELED, group=name)(_dying_behind(function))
