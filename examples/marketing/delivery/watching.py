"""Promotions as they are now, or were half a second ago: read once for many messages."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from examples.marketing.messages import InformType
from examples.marketing.promotions.model import Promotion
from examples.marketing.promotions.states import State
from examples.marketing.store import promotions
from examples.marketing.store.database import Database

FRESH = timedelta(seconds=0.5)


@dataclass(frozen=True, slots=True)
class Watched:
    """Those under way, and others that were asked for; `resumed_ms` is when the last one of those that run began or
    went on, None: none runs."""

    promotions: Mapping[int, Promotion]
    resumed_ms: int | None = None
    channels: frozenset[InformType] = field(default_factory=frozenset)  # of those that run


class Watch:
    """Asks the database for those under way when what it knows is older than half a second. A promotion that is not
    among them is asked for each time: it may have been launched a moment ago."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._known = Watched({})
        self._read_at: datetime | None = None

    def look(self, ids: Iterable[int], now: datetime) -> Watched:
        with self._lock:  # who comes while another one reads waits for what that one finds
            if self._read_at is None or not timedelta(0) <= now - self._read_at < FRESH:
                with self._database.reading() as connection:
                    self._known = _watched(promotions.under_way(connection))
                self._read_at = now
            known = self._known
        missing = [each for each in ids if each not in known.promotions]
        if not missing:
            return known
        with self._database.reading() as connection:
            found = promotions.find(connection, missing)
        return Watched({**known.promotions, **found}, known.resumed_ms, known.channels)


def _watched(under_way: Iterable[Promotion]) -> Watched:
    known = {each.id: each for each in under_way}
    running = [each for each in known.values() if each.state is State.RUNNING]
    return Watched(
        known,
        max((each.resumed_at_ms for each in running), default=None),
        frozenset(each.order.inform_type for each in running),
    )
