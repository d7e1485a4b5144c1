"""Waiting shards to holders, and away from those that fell silent."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select, update

from admin.domain.names import Group, RunId, ShardKey
from admin.domain.routing import Assignment, Waiting
from admin.domain.run import Run, assigned
from admin.domain.shard import Shard, ShardState, step
from admin.ports import Change, Changed, Decide, Offer, Takers
from admin.store.databases import many
from admin.store.databases.many import Lock, Raw
from admin.store.runs.books import Books
from admin.store.runs.rows import SHARD_CODES, SHARD_COLUMNS, ms_of
from admin.store.tables import shards as table
from admin.store.types import uuid_text

_WAITING = (
    f"SELECT {SHARD_COLUMNS} FROM shards s WHERE s.state = {SHARD_CODES[ShardState.WAITING]}"
    " AND s.group_name = {mark} AND s.due_ms <= {mark} AND s.handler IN ({keys})"
    " ORDER BY s.due_ms, s.run_id, s.shard_index LIMIT {limit}"
)


def claim_waiting(books: Books, takers: Takers) -> Sequence[Assignment]:
    """Shards that another admin has in hand are left to it. Then their runs' rows are waited for: those of a run whose
    shards report all the time are hardly ever free.
    """
    rows = [row for group, offer in takers.offers.items() for row in _waiting(books, group, offer)]
    found = books.found_with(rows)
    leased = lease_to(takers, found.shards, found.runs, books.now)
    owners = {**found.runs, **{run.id: run for run in books.keep(found, leased)}}
    pins = books.load_pins({key.run_id for key in leased} & found.pinned)
    return [Assignment(shard, owners[key.run_id], pins.get(key.run_id, {})) for key, shard in leased.items()]


def lease_to(
    takers: Takers, shards: Mapping[ShardKey, Shard], runs: Mapping[RunId, Run], now: datetime
) -> dict[ShardKey, Shard]:
    """Waiting shards as their takers hold them; those that are due first are given first."""
    in_order = sorted((shard.due_at, key) for key, shard in shards.items())
    waiting = [Waiting(key, runs[key.run_id].group, runs[key.run_id].handler) for _, key in in_order]
    leased: dict[ShardKey, Shard] = {}
    for key, executor_id, name in takers.choose(waiting) if waiting else ():
        event = assigned(runs[key.run_id], executor_id, name, takers.lease, now)
        leased[key] = step(shards[key], event)
    return leased


def _waiting(books: Books, group: Group, offer: Offer) -> Sequence[Raw]:
    """Those that are due first."""
    before = (group, ms_of(books.now))
    text = _WAITING.replace("{limit}", str(offer.slots))
    return many.fetch(books.connection, text, sorted(offer.handlers), before=before, lock=Lock.SKIP)


def claim_lapsed(books: Books, limit: int, decide: Decide) -> Changed:
    """A run that somebody has in hand is left to them: another admin that does the same, or a beat that just comes."""
    query = select(table.c.run_id, table.c.shard_index).where(table.c.leased_until_ms <= ms_of(books.now))
    rows = books.connection.execute(query.order_by(table.c.leased_until_ms).limit(limit))
    changes = [Change(ShardKey(RunId(uuid_text(key)), index), decide) for key, index in rows]
    return books.change(changes, lock=Lock.SKIP)


def extend(books: Books, lease: timedelta) -> int:
    is_held = table.c.leased_until_ms.is_not(None)
    values = update(table).where(is_held).values(leased_until_ms=ms_of(books.now + lease))
    return books.connection.execute(values).rowcount
