"""Shards in SQL: loading, stepping and keeping many at once, and their runs as they follow."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, bindparam, func, insert, select, tuple_, update

from admin.domain.names import RunId, ShardKey
from admin.domain.run import Run, settled
from admin.domain.shard import Shard, ShardState, step
from admin.ports import Change, Changed
from admin.store.rows import run_of, run_values, shard_of, shard_values
from admin.store.tables import runs, shards

T = TypeVar("T")

CHUNK = 400  # keys a statement, under every database's limit of parameters


def change(connection: Connection, changes: Sequence[Change], now: datetime) -> Changed:
    """Applies changes in order, each to what the one before it left."""
    before = load_shards(connection, {change.key for change in changes})
    current = dict(before)
    owners = load_runs(connection, {key.run_id for key in before})
    seen: list[Shard | None] = []
    for item in changes:
        shard = current.get(item.key)
        seen.append(shard)
        event = item.decide(shard, owners[shard.run_id]) if shard else None
        if shard and event:
            current[item.key] = step(shard, event)
    moved = [shard for key, shard in current.items() if shard != before[key]]
    keep_shards(connection, moved)
    changed = {shard.run_id for shard in moved if shard.state is not before[shard.key].state}
    return Changed(seen, settle(connection, [owners[run_id] for run_id in changed], now))


def settle(connection: Connection, owners: Collection[Run], now: datetime) -> list[Run]:
    """Keeps the runs as their shards say; gives those that are not as they were."""
    tallies: dict[str, dict[ShardState, int]] = defaultdict(dict)
    for chunk in chunks([run.id for run in owners]):
        query = select(shards.c.run_id, shards.c.state, func.count()).where(shards.c.run_id.in_(chunk))
        for run_id, state, count in connection.execute(query.group_by(shards.c.run_id, shards.c.state)):
            tallies[run_id][ShardState(state)] = count
    after = [(run, settled(run, tallies[run.id], now)) for run in owners]
    moved = [new for old, new in after if new != old]
    keep_runs(connection, moved)
    return moved


def load_shards(connection: Connection, keys: Collection[ShardKey]) -> dict[ShardKey, Shard]:
    found: dict[ShardKey, Shard] = {}
    for chunk in chunks([(key.run_id, key.index) for key in sorted(keys)]):
        query = select(shards).where(tuple_(shards.c.run_id, shards.c.shard_index).in_(chunk)).with_for_update()
        found.update((shard.key, shard) for shard in map(shard_of, connection.execute(query)))
    return found


def load_runs(connection: Connection, run_ids: Collection[RunId]) -> dict[RunId, Run]:
    found: dict[RunId, Run] = {}
    for chunk in chunks(sorted(run_ids)):
        query = select(runs).where(runs.c.id.in_(chunk)).with_for_update()
        found.update((run.id, run) for run in map(run_of, connection.execute(query)))
    return found


def keep_shards(connection: Connection, changed: Iterable[Shard]) -> None:
    values = [{**shard_values(shard), "b_run": shard.run_id, "b_index": shard.index} for shard in changed]
    if values:
        where = (shards.c.run_id == bindparam("b_run")) & (shards.c.shard_index == bindparam("b_index"))
        connection.execute(update(shards).where(where), values)


def keep_runs(connection: Connection, changed: Iterable[Run]) -> None:
    values = [{**run_values(run), "b_run": run.id} for run in changed]
    if values:
        connection.execute(update(runs).where(runs.c.id == bindparam("b_run")), values)


def add_runs(connection: Connection, new: Sequence[tuple[Run, Sequence[Shard]]]) -> None:
    if not new:
        return
    connection.execute(insert(runs), [dict(run_values(run)) for run, _ in new])
    rows = (
        {**shard_values(shard), "run_id": run.id, "group_name": run.group, "handler": run.handler}
        for run, its_shards in new
        for shard in its_shards
    )
    connection.execute(insert(shards), list(rows))


def chunks(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """As many at once as a statement takes."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
