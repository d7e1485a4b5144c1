"""Waiting shards to holders, and away from those that fell silent."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import select, update

from admin.domain.names import Group, RunId, ShardKey
from admin.domain.routing import Assignment, Waiting
from admin.domain.run import assigned
from admin.domain.shard import Shard, ShardState, step
from admin.ports import Change, Changed, Choose, Decide, Offer
from admin.store.databases import many
from admin.store.databases.many import Lock, Raw
from admin.store.runs.books import BOTH, Books
from admin.store.runs.rows import SHARD_CODES, ms_of
from admin.store.tables import shards
from admin.store.types import uuid_text

_WAITING = (
    f"{BOTH} WHERE s.state = {SHARD_CODES[ShardState.WAITING]} AND s.group_name = {{mark}} AND s.due_ms <= {{mark}}"
    " AND s.handler IN ({keys}) ORDER BY s.due_ms LIMIT {limit}"
)


def claim_waiting(
    books: Books, lease: timedelta, offers: Mapping[Group, Offer], choose: Choose
) -> Sequence[Assignment]:
    """A run that another admin has in hand is left to it. Nobody else can take a shard whose run's row is locked."""
    found = books.found([row for group, offer in offers.items() for row in _waiting(books, group, offer)])
    in_order = sorted(found.shards.values(), key=lambda shard: (shard.due_at, shard.run_id, shard.index))
    owners = ((shard.key, found.runs[shard.run_id]) for shard in in_order)
    waiting = [Waiting(key, run.group, run.handler) for key, run in owners]
    leased: dict[ShardKey, Shard] = {}
    for key, executor_id, name in choose(waiting) if waiting else ():
        event = assigned(found.runs[key.run_id], executor_id, name, lease, books.now)
        leased[key] = step(found.shards[key], event)
    books.keep(found, leased)
    pins = books.load_pins({key.run_id for key in leased} & found.pinned)
    return [Assignment(shard, found.runs[key.run_id], pins.get(key.run_id, {})) for key, shard in leased.items()]


def _waiting(books: Books, group: Group, offer: Offer) -> Sequence[Raw]:
    """Those that are due first."""
    before = (group, ms_of(books.now))
    text = _WAITING.replace("{limit}", str(offer.slots))
    return many.fetch(books.connection, text, sorted(offer.handlers), before=before, lock=Lock.SKIP)


def claim_lapsed(books: Books, limit: int, decide: Decide) -> Changed:
    query = select(shards.c.run_id, shards.c.shard_index).where(shards.c.leased_until_ms <= ms_of(books.now))
    rows = books.connection.execute(query.order_by(shards.c.leased_until_ms).limit(limit))
    return books.change([Change(ShardKey(RunId(uuid_text(key)), index), decide) for key, index in rows])


def extend(books: Books, lease: timedelta) -> int:
    is_held = shards.c.leased_until_ms.is_not(None)
    values = update(shards).where(is_held).values(leased_until_ms=ms_of(books.now + lease))
    return books.connection.execute(values).rowcount
