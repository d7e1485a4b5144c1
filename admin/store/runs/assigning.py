"""Waiting shards to holders, and away from those that fell silent."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Select, select, update

from admin.domain.names import Group, HandlerName, RunId, ShardKey
from admin.domain.routing import Assignment, Waiting
from admin.domain.run import assigned
from admin.domain.shard import Shard, ShardState, step
from admin.ports import Change, Changed, Choose, Decide, Offer
from admin.store.runs.books import Books
from admin.store.runs.rows import ms_of
from admin.store.tables import shards


def claim_waiting(
    books: Books, lease: timedelta, offers: Mapping[Group, Offer], choose: Choose
) -> Sequence[Assignment]:
    """A run that another admin has in hand is left to it. Nobody else can take a shard whose run's row is locked."""
    found = _waiting(books, offers)
    if not found:
        return []
    owners = books.load_runs({key.run_id for key, _ in found}, skip_locked=True)
    held = books.load_shards(key for key, _ in found if key.run_id in owners)
    free = {key: shard for key, shard in held.items() if shard.state is ShardState.WAITING}
    choices = choose([Waiting(key, owners[key.run_id].group, handler) for key, handler in found if key in free])
    leased: dict[ShardKey, Shard] = {}
    for choice in choices:
        event = assigned(owners[choice.key.run_id], choice.executor_id, choice.name, lease, books.now)
        leased[choice.key] = step(free[choice.key], event)
    books.keep(free, leased, owners)
    pins = books.load_pins({key.run_id for key in leased})
    return [Assignment(shard, owners[key.run_id], pins.get(key.run_id, {})) for key, shard in leased.items()]


def _waiting(books: Books, offers: Mapping[Group, Offer]) -> list[tuple[ShardKey, HandlerName]]:
    """In the order in which they are due."""
    found: list[tuple[int, ShardKey, HandlerName]] = []
    for group, offer in offers.items():
        for row in books.connection.execute(_waiting_query(group, offer, books.now)):
            found.append((row.due_ms, ShardKey(RunId(row.run_id), row.shard_index), HandlerName(row.handler)))
    return [(key, handler) for _, key, handler in sorted(found)]


def _waiting_query(group: Group, offer: Offer, now: datetime) -> Select[*tuple[object, ...]]:
    return (
        select(shards.c.run_id, shards.c.shard_index, shards.c.handler, shards.c.due_ms)
        .where(shards.c.state == ShardState.WAITING, shards.c.group_name == group)
        .where(shards.c.due_ms <= ms_of(now), shards.c.handler.in_(offer.handlers))
        .order_by(shards.c.due_ms)
        .limit(offer.slots)
    )


def claim_lapsed(books: Books, limit: int, decide: Decide) -> Changed:
    query = select(shards.c.run_id, shards.c.shard_index).where(shards.c.leased_until_ms <= ms_of(books.now))
    rows = books.connection.execute(query.order_by(shards.c.leased_until_ms).limit(limit))
    return books.change([Change(ShardKey(RunId(run_id), index), decide) for run_id, index in rows])


def extend(books: Books, lease: timedelta) -> int:
    is_held = shards.c.leased_until_ms.is_not(None)
    values = update(shards).where(is_held).values(leased_until_ms=ms_of(books.now + lease))
    return books.connection.execute(values).rowcount
