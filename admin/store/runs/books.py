"""The books inside one transaction: runs and shards loaded, stepped and kept many at a time.

Whoever changes a shard holds its run's row. A job's row is locked before its runs are added, and else only behind the
rows of runs, so that nobody waits in a circle.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, delete, func, select, tuple_

from admin.domain.job import Job
from admin.domain.names import RunId, ShardKey
from admin.domain.plan import fire_behind_end
from admin.domain.run import Cause, Run, settled, shards_of
from admin.domain.shard import Shard, ShardState, step
from admin.domain.trigger import delay_of
from admin.ports import Change, Changed
from admin.store.databases import many
from admin.store.jobs import load_jobs, move_jobs
from admin.store.runs import history
from admin.store.runs.definitions import CHUNK, Definitions
from admin.store.runs.history import EndedRun, Pins
from admin.store.runs.rows import changed_values, moving_values, new_shard_values, run_of, run_values, shard_of
from admin.store.tables import run_pins, runs, shards

T = TypeVar("T")

_KEY = ("run_id", "shard_index")


@dataclass(frozen=True, slots=True)
class Books:
    """Runs that have not ended, as one transaction sees and leaves them."""

    connection: Connection
    definitions: Definitions
    now: datetime

    def change(self, changes: Sequence[Change]) -> Changed:
        """Applies changes in order, each to what the one before it left."""
        owners = self.load_runs({change.key.run_id for change in changes})
        before = self.load_shards(change.key for change in changes if change.key.run_id in owners)
        current = dict(before)
        past = self._past({change.key.run_id for change in changes} - owners.keys())
        seen: list[tuple[Shard, Run] | None] = []
        for item in changes:
            shard, run = current.get(item.key), owners.get(item.key.run_id)
            if shard is None or run is None:
                seen.append(past.get(item.key))
                continue
            seen.append((shard, run))
            if (event := item.decide(shard, run, self.now)) is not None:
                current[item.key] = step(shard, event)
        moved = {key: shard for key, shard in current.items() if shard is not before[key]}
        return Changed(seen, self.keep(before, moved, owners))

    def keep(
        self, before: Mapping[ShardKey, Shard], moved: Mapping[ShardKey, Shard], owners: Mapping[RunId, Run]
    ) -> list[Run]:
        """Keeps shards that were stepped, and their runs as they follow; gives the runs that are not as they were."""
        alone = {key: shard for key, shard in moved.items() if shard.total == 1}
        after = {shard.run_id: settled(owners[shard.run_id], {shard.state: 1}, self.now) for shard in alone.values()}
        ending = {run.id: [alone[ShardKey(run.id, 0)]] for run in after.values() if run.is_over}
        self._keep_shards(before, [shard for shard in moved.values() if shard.run_id not in ending])
        shared = {key.run_id for key, shard in moved.items() if key not in alone and _has_turned(before[key], shard)}
        after |= self._settled([owners[run_id] for run_id in shared])
        ending |= self._list_shards(run_id for run_id in shared if after[run_id].is_over)
        self.end([after[run_id] for run_id in ending], ending)
        changed = [run for run in after.values() if run != owners[run.id]]
        self.keep_runs([run for run in changed if not run.is_over])
        return changed

    def add(self, new: Sequence[Run]) -> None:
        """Writes runs down with the shards they start with; those that have ended already, into the history."""
        over = [run for run in new if run.is_over]
        history.add(self.connection, [EndedRun(run, (), {}) for run in over])
        active = [run for run in new if not run.is_over]
        many.insert(self.connection, runs, [run_values(run) for run in active])
        self._add_shards([run for run in active if not run.is_queued])

    def begin(self, started: Sequence[Run]) -> None:
        """Keeps runs that were queued as such whose shards may be assigned."""
        self.keep_runs(started)
        self._add_shards(started)

    def _add_shards(self, begun: Iterable[Run]) -> None:
        """Those that the runs begin with."""
        rows = [new_shard_values(shard, run) for run in begun for shard in shards_of(run, self.now)]
        many.insert(self.connection, shards, rows)

    def reopen(self, ended: EndedRun, run: Run, its_shards: Sequence[Shard]) -> None:
        """Takes a run out of the history."""
        history.remove(self.connection, [run.id])
        many.insert(self.connection, runs, [run_values(run)])
        self._add_shards([run])
        fresh = {shard.key: shard for shard in shards_of(run, self.now)}
        self._keep_shards(fresh, its_shards)
        pins = [{"run_id": run.id, "name": name, "value": value} for name, value in ended.pins.items()]
        many.insert(self.connection, run_pins, pins)

    def end(self, ended: Sequence[Run], its_shards: Mapping[RunId, Sequence[Shard]]) -> None:
        """Moves runs into the history; with a fixed delay the end of a fire's run leads to the next fire."""
        if not ended:
            return
        ids = [run.id for run in ended]
        pins = self.load_pins(ids)
        history.add(self.connection, [EndedRun(run, its_shards.get(run.id, ()), pins.get(run.id, {})) for run in ended])
        for chunk in chunks(ids):
            self.connection.execute(delete(shards).where(shards.c.run_id.in_(chunk)))
            self.connection.execute(delete(runs).where(runs.c.id.in_(chunk)))
        for chunk in chunks(list(pins)):
            self.connection.execute(delete(run_pins).where(run_pins.c.run_id.in_(chunk)))
        delayed = {run.job_id: run for run in ended if _leads_on(run)}
        jobs = load_jobs(self.connection, self.definitions, delayed)
        after = [_behind(job, delayed[job.id], self.now) for job in jobs]
        move_jobs(self.connection, [new for old, new in zip(jobs, after, strict=True) if new != old])

    def load_runs(
        self, run_ids: Collection[RunId], *, skip_locked: bool = False, is_reading: bool = False
    ) -> dict[RunId, Run]:
        """Those that have not ended, their rows locked unless they are only read."""
        found: dict[RunId, Run] = {}
        for chunk in chunks(sorted(run_ids)):
            query = select(runs).where(runs.c.id.in_(chunk)).order_by(runs.c.id)
            query = query if is_reading else query.with_for_update(skip_locked=skip_locked)
            rows = self.connection.execute(query).all()
            known = self.definitions.get(self.connection, {row.definition_id for row in rows})
            found.update((RunId(row.id), run_of(row, known[row.definition_id])) for row in rows)
        return found

    def load_shards(self, keys: Iterable[ShardKey]) -> dict[ShardKey, Shard]:
        found: dict[ShardKey, Shard] = {}
        for chunk in chunks(sorted(set(keys))):
            wanted = [(key.run_id, key.index) for key in chunk]
            query = select(shards).where(tuple_(shards.c.run_id, shards.c.shard_index).in_(wanted))
            found.update((shard.key, shard) for shard in map(shard_of, self.connection.execute(query)))
        return found

    def load_pins(self, run_ids: Collection[RunId]) -> Mapping[RunId, Pins]:
        """Of those that have some."""
        pins: defaultdict[RunId, dict[str, str]] = defaultdict(dict)
        for chunk in chunks(sorted(run_ids)):
            for row in self.connection.execute(select(run_pins).where(run_pins.c.run_id.in_(chunk))):
                pins[RunId(row.run_id)][row.name] = row.value
        return pins

    def list_shards(self, run: Run) -> list[Shard]:
        """By index, of a run that has not ended."""
        if run.is_queued:
            return shards_of(run, self.now)
        return self._list_shards([run.id])[run.id]

    def _list_shards(self, run_ids: Iterable[RunId]) -> dict[RunId, list[Shard]]:
        found: dict[RunId, list[Shard]] = {run_id: [] for run_id in run_ids}
        for chunk in chunks(sorted(found)):
            query = select(shards).where(shards.c.run_id.in_(chunk)).order_by(shards.c.run_id, shards.c.shard_index)
            for shard in map(shard_of, self.connection.execute(query)):
                found[shard.run_id].append(shard)
        return found

    def _past(self, run_ids: Collection[RunId]) -> Mapping[ShardKey, tuple[Shard, Run]]:
        """Shards of runs that have ended: reports come late, or twice."""
        ended = history.load(self.connection, self.definitions, run_ids).values()
        return {shard.key: (shard, each.run) for each in ended for shard in each.shards}

    def _settled(self, owners: Sequence[Run]) -> dict[RunId, Run]:
        """The runs as their shards say."""
        tallies: dict[str, dict[ShardState, int]] = defaultdict(dict)
        for chunk in chunks([run.id for run in owners]):
            query = select(shards.c.run_id, shards.c.state, func.count()).where(shards.c.run_id.in_(chunk))
            for run_id, state, count in self.connection.execute(query.group_by(shards.c.run_id, shards.c.state)):
                tallies[run_id][state] = count
        return {run.id: settled(run, tallies[run.id], self.now) for run in owners}

    def _keep_shards(self, before: Mapping[ShardKey, Shard], changed: Iterable[Shard]) -> None:
        """In groups of those whose same columns changed."""
        groups: defaultdict[tuple[str, ...], list[Mapping[str, object]]] = defaultdict(list)
        for shard in changed:
            values = changed_values(before[shard.key], shard)
            groups[tuple(values)].append(values)
        for names, rows in groups.items():
            if len(names) > len(_KEY):
                many.update(self.connection, shards, _KEY, rows)

    def keep_runs(self, changed: Sequence[Run]) -> None:
        """Of runs that have not ended."""
        many.update(self.connection, runs, ("id",), [{"id": run.id, **moving_values(run)} for run in changed])


def chunks(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """As many at once as a statement takes."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def _has_turned(old: Shard, new: Shard) -> bool:
    return old.state is not new.state


def _leads_on(run: Run) -> bool:
    return run.cause is Cause.FIRE and delay_of(run.definition.trigger) is not None


def _behind(job: Job, run: Run, now: datetime) -> Job:
    return job._replace(next_fire_at=fire_behind_end(job, run, now))
