"""The books inside one transaction: runs and shards loaded, stepped and kept many at a time.

Whoever changes a shard holds its run's row. A job's row is locked before its runs are added, and else only behind the
rows of runs, so that nobody waits in a circle.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from admin.domain.job import Job
from admin.domain.names import RunId, ShardKey
from admin.domain.plan import fire_behind_end
from admin.domain.run import Cause, Run, settled, shards_of
from admin.domain.shard import Shard, ShardState, step
from admin.domain.trigger import delay_of
from admin.ports import Change, Changed
from admin.store.databases import many
from admin.store.databases.many import Lock, Raw
from admin.store.jobs import awaits_end, load_jobs, move_jobs
from admin.store.runs import history
from admin.store.runs.definitions import Definitions
from admin.store.runs.history import EndedRun, Pins
from admin.store.runs.rows import (
    RUN_COLUMNS,
    RUN_WIDTH,
    SHARD_COLUMNS,
    SHARD_STATES,
    changed_values,
    definition_id_of,
    is_pinned,
    moved_values,
    new_shard_values,
    run_of,
    run_values,
    shard_of,
)
from admin.store.tables import run_pins, runs, shards
from admin.store.types import uuid_bytes, uuid_text

_KEY = ("run_id", "shard_index")
BOTH = f"SELECT {RUN_COLUMNS}, {SHARD_COLUMNS} FROM runs r JOIN shards s ON s.run_id = r.id"
_BY_KEY = f"{BOTH} WHERE (s.run_id, s.shard_index) IN ({{keys}}) ORDER BY s.run_id, s.shard_index"
_RUNS = f"SELECT {RUN_COLUMNS} FROM runs r WHERE r.id IN ({{keys}}) ORDER BY r.id"
_SHARDS = f"SELECT {SHARD_COLUMNS} FROM shards s WHERE s.run_id IN ({{keys}}) ORDER BY s.run_id, s.shard_index"
_TALLY = "SELECT run_id, state, count(*) FROM shards WHERE run_id IN ({keys}) GROUP BY run_id, state"
_PINS = "SELECT run_id, name, value FROM run_pins WHERE run_id IN ({keys})"


@dataclass(slots=True)
class Found:
    """Shards and their runs as they were loaded."""

    shards: dict[ShardKey, Shard]
    runs: dict[RunId, Run]
    pinned: set[RunId]


@dataclass(frozen=True, slots=True)
class Books:
    """Runs that have not ended, as one transaction sees and leaves them."""

    connection: Connection
    definitions: Definitions
    now: datetime

    def change(self, changes: Sequence[Change]) -> Changed:
        """Applies changes in order, each to what the one before it left."""
        keys = {change.key for change in changes}
        found = self.found(self._fetch(_BY_KEY, [(uuid_bytes(key.run_id), key.index) for key in sorted(keys)]))
        past = self._past({key.run_id for key in keys - found.shards.keys()})
        current = dict(found.shards)
        seen: list[tuple[Shard, Run] | None] = []
        steps: list[bool] = []
        for key, decide in changes:
            if (shard := current.get(key)) is None:
                seen.append(past.get(key))
                steps.append(False)
                continue
            run = found.runs[key.run_id]
            event = decide(shard, run, self.now)
            seen.append((shard, run))
            steps.append(event is not None)
            if event is not None:
                current[key] = step(shard, event)
        moved = {key: shard for key, shard in current.items() if shard is not found.shards[key]}
        return Changed(seen, self.keep(found, moved), steps)

    def found(self, rows: Sequence[Raw]) -> Found:
        """What rows of both tables say."""
        known = self.definitions.get(self.connection, {definition_id_of(row) for row in rows})
        found = Found({}, {}, set())
        for row in rows:
            run_id = RunId(uuid_text(row[0]))
            if run_id not in found.runs:
                found.runs[run_id] = run_of(row, known[definition_id_of(row)])
                if is_pinned(row):
                    found.pinned.add(run_id)
            found.shards[ShardKey(run_id, row[RUN_WIDTH + 1])] = shard_of(row[RUN_WIDTH:], run_id)
        return found

    def found_with(self, rows: Sequence[Raw]) -> Found:
        """What rows of shards say, whose own rows are locked, with their runs' rows locked too."""
        run_rows = {bytes(row[0]): row for row in self._fetch(_RUNS, sorted({bytes(row[0]) for row in rows}))}
        return self.found([(*run_rows[key], *row) for row in rows if (key := bytes(row[0])) in run_rows])

    def keep(self, found: Found, moved: Mapping[ShardKey, Shard]) -> list[Run]:
        """Keeps shards that were stepped, and their runs as they follow; gives the runs that are not as they were."""
        turned = [shard for key, shard in moved.items() if shard.state is not found.shards[key].state]
        alone = {shard.run_id: shard for shard in turned if shard.total == 1}
        after = {run_id: settled(found.runs[run_id], {shard.state: 1}, self.now) for run_id, shard in alone.items()}
        ending = {run_id: [alone[run_id]] for run_id, run in after.items() if run.is_over}
        self._keep_shards(found, {key: shard for key, shard in moved.items() if key.run_id not in ending})
        shared = {shard.run_id for shard in turned if shard.total > 1}
        after |= self._settled([found.runs[run_id] for run_id in shared])
        ending |= self._shards_of(run_id for run_id in shared if after[run_id].is_over)
        self.end([after[run_id] for run_id in ending], ending, found.pinned)
        changed = [run for run_id, run in after.items() if run != found.runs[run_id]]
        self.keep_runs([run for run in changed if not run.is_over])
        return changed

    def fresh(self, new: Sequence[Run]) -> dict[ShardKey, Shard]:
        """The shards that runs begin with; a queued one begins later."""
        begun = (run for run in new if not (run.is_over or run.is_queued))
        return {ShardKey(run.id, shard.index): shard for run in begun for shard in shards_of(run, self.now)}

    def add(self, new: Sequence[Run], its_shards: Mapping[ShardKey, Shard]) -> None:
        """Writes runs down with their shards; those that have ended already, into the history."""
        history.add(self.connection, [EndedRun(run, (), {}) for run in new if run.is_over])
        many.insert(self.connection, runs, [run_values(run) for run in new if not run.is_over])
        owners = {run.id: run for run in new}
        rows = [new_shard_values(shard, owners[key.run_id]) for key, shard in its_shards.items()]
        for is_leased in (False, True):
            many.insert(self.connection, shards, [row for row in rows if ("holder" in row) is is_leased])

    def begin(self, started: Sequence[Run]) -> None:
        """Keeps runs that were queued as such whose shards may be assigned."""
        self.keep_runs(started)
        self._add_shards(started)

    def _add_shards(self, begun: Sequence[Run]) -> None:
        """Those that the runs begin with."""
        owners = {run.id: run for run in begun}
        rows = [new_shard_values(shard, owners[key.run_id]) for key, shard in self.fresh(begun).items()]
        many.insert(self.connection, shards, rows)

    def reopen(self, ended: EndedRun, run: Run, its_shards: Sequence[Shard]) -> None:
        """Takes a run out of the history."""
        history.remove(self.connection, [run.id])
        many.insert(self.connection, runs, [{**run_values(run), "is_pinned": bool(ended.pins)}])
        self._add_shards([run])
        fresh = {shard.key: shard for shard in shards_of(run, self.now)}
        self._keep_shards(Found(fresh, {}, set()), {shard.key: shard for shard in its_shards})
        pins = [{"run_id": uuid_bytes(run.id), "name": name, "value": value} for name, value in ended.pins.items()]
        many.insert(self.connection, run_pins, pins)

    def end(
        self, ended: Sequence[Run], its_shards: Mapping[RunId, Sequence[Shard]], pinned: Collection[RunId] = ()
    ) -> None:
        """Moves runs into the history; with a fixed delay the end of a fire's run leads to the next fire."""
        pins = self.load_pins([run.id for run in ended if run.id in pinned])
        whole = [EndedRun(run, its_shards.get(run.id, ()), pins.get(run.id, {})) for run in ended]
        history.add(self.connection, whole)
        keys = [uuid_bytes(run.id) for run in ended]
        many.delete(self.connection, shards, "run_id", keys)
        many.delete(self.connection, runs, "id", keys)
        many.delete(self.connection, run_pins, "run_id", [uuid_bytes(run_id) for run_id in pins])
        delayed = {run.job_id: run for run in ended if _leads_on(run)}
        jobs = load_jobs(self.connection, self.definitions, delayed.keys())
        waiting = awaits_end(self.connection, self.definitions, [job.id for job in jobs])
        jobs = [job for job in jobs if job.id not in waiting]
        after = [_behind(job, delayed[job.id], self.now) for job in jobs]
        move_jobs(self.connection, [new for old, new in zip(jobs, after, strict=True) if new != old])

    def keep_runs(self, changed: Sequence[Run]) -> None:
        """Of runs that have not ended."""
        many.update(self.connection, runs, ("id",), [moved_values(run) for run in changed])

    def load_runs(self, run_ids: Iterable[RunId], *, lock: Lock = Lock.WAIT) -> dict[RunId, Run]:
        """Those that have not ended."""
        rows = self._fetch(_RUNS, [uuid_bytes(run_id) for run_id in sorted(run_ids)], lock=lock)
        known = self.definitions.get(self.connection, {definition_id_of(row) for row in rows})
        return {run.id: run for run in (run_of(row, known[definition_id_of(row)]) for row in rows)}

    def load_shard(self, key: ShardKey) -> Shard | None:
        """With its run's row locked."""
        return self.found(self._fetch(_BY_KEY, [(uuid_bytes(key.run_id), key.index)])).shards.get(key)

    def load_all(self, run: Run, *, lock: Lock = Lock.WAIT) -> Found:
        """A run with all its shards, by index; a queued one has none that could be changed."""
        if run.is_queued:
            return Found({shard.key: shard for shard in shards_of(run, run.fire_at)}, {run.id: run}, set())
        rows = self._fetch(f"{BOTH} WHERE r.id IN ({{keys}}) ORDER BY s.shard_index", [uuid_bytes(run.id)], lock=lock)
        return self.found(rows)

    def load_pins(self, run_ids: Iterable[RunId]) -> Mapping[RunId, Pins]:
        """Of those that have some."""
        pins: defaultdict[RunId, dict[str, str]] = defaultdict(dict)
        for key, name, value in self._fetch(_PINS, [uuid_bytes(run_id) for run_id in run_ids], lock=Lock.NONE):
            pins[RunId(uuid_text(key))][name] = value
        return pins

    def _shards_of(self, run_ids: Iterable[RunId]) -> dict[RunId, list[Shard]]:
        found: dict[RunId, list[Shard]] = {run_id: [] for run_id in run_ids}
        for row in self._fetch(_SHARDS, [uuid_bytes(run_id) for run_id in found], lock=Lock.NONE):
            run_id = RunId(uuid_text(row[0]))
            found[run_id].append(shard_of(row, run_id))
        return found

    def _past(self, run_ids: Collection[RunId]) -> Mapping[ShardKey, tuple[Shard, Run]]:
        """Shards of runs that have ended: reports come late, or twice."""
        ended = history.load(self.connection, self.definitions, run_ids).values()
        return {shard.key: (shard, each.run) for each in ended for shard in each.shards}

    def _settled(self, owners: Sequence[Run]) -> dict[RunId, Run]:
        """The runs as their shards say."""
        tallies: dict[RunId, dict[ShardState, int]] = defaultdict(dict)
        rows = self._fetch(_TALLY, [uuid_bytes(run.id) for run in owners], lock=Lock.NONE)
        for key, state, count in rows:
            tallies[RunId(uuid_text(key))][SHARD_STATES[state]] = count
        return {run.id: settled(run, tallies[run.id], self.now) for run in owners}

    def _keep_shards(self, found: Found, changed: Mapping[ShardKey, Shard]) -> None:
        """In groups of those whose same columns changed."""
        groups: defaultdict[tuple[str, ...], list[Mapping[str, object]]] = defaultdict(list)
        for key, shard in changed.items():
            values = changed_values(found.shards[key], shard)
            groups[tuple(values)].append(values)
        for names, rows in groups.items():
            if len(names) > len(_KEY):
                many.update(self.connection, shards, _KEY, rows)

    def _fetch(self, text: str, keys: Sequence[object], *, lock: Lock = Lock.WAIT) -> Sequence[Raw]:
        return many.fetch(self.connection, text, keys, lock=lock)


def _leads_on(run: Run) -> bool:
    return run.cause is Cause.FIRE and delay_of(run.definition.trigger) is not None


def _behind(job: Job, run: Run, now: datetime) -> Job:
    return job._replace(next_fire_at=fire_behind_end(job, run, now))
