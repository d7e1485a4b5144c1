"""From due jobs and queued runs to runs that may be assigned; each job is decided on under the lock of its row."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

from sqlalchemy import exists, select

from admin.domain.job import Job
from admin.domain.names import JobId, RunId
from admin.domain.overlap import REPLACED, Active, turn
from admin.domain.plan import Planned, is_doubtful, without
from admin.domain.routing import Assignment
from admin.domain.run import Run, RunState, ended_unbegun, settled
from admin.domain.shard import ShardState
from admin.ports import Due, Plan, Takers, Turned
from admin.store.databases import many
from admin.store.databases.many import Lock
from admin.store.jobs import active_of, due_jobs, move_jobs, next_due_ms
from admin.store.runs.assigning import lease_to
from admin.store.runs.books import Books
from admin.store.runs.rows import CAUSE_CODES, QUEUED, REPLACING, RUN_COLUMNS, definition_id_of, ms_of, run_of
from admin.store.tables import runs

_OF_JOBS = f"SELECT {RUN_COLUMNS} FROM runs r WHERE r.job_id IN ({{keys}})"
SHARDS_A_ROUND = 5_000  # from there on what else is due waits for the next round

_UNDER_WAY = {ShardState.RUNNING: 1}
_KNOWN = "SELECT job_id, cause, run_key FROM {table} WHERE (job_id, cause, run_key) IN ({keys})"
_KNOWN_SQLITE = (  # which begins with the keys, where the other would read all of the history
    "SELECT t.job_id, t.cause, t.run_key FROM ({keys}) AS v CROSS JOIN {table} t"
    " ON t.job_id = v.column1 AND t.cause = v.column2 AND t.run_key = v.column3"
)
_JOBS = "SELECT id FROM jobs WHERE id IN ({keys}) ORDER BY id"


def claim_due(books: Books, limit: int, plan: Plan, takers: Takers | None) -> Due:
    connection, now = books.connection, books.now
    due = due_jobs(connection, books.definitions, now, limit)
    active = active_of(connection, [job.id for job in due])
    planned = _planned(books, due, lambda job: plan(job, now, active.get(job.id, Active())))
    new = [run for each in planned for run in each.runs]
    kept, assignments = _added(books, new, takers)
    move_jobs(connection, [each.job for each in planned])
    next_ms = next_due_ms(connection)
    wait = None if next_ms is None else timedelta(milliseconds=max(0, next_ms - ms_of(now)))
    return Due(len(planned), kept, assignments, wait)


def _planned(books: Books, due: Sequence[Job], plan: Callable[[Job], Planned]) -> list[Planned]:
    """What the first of the due jobs lead to; the others stay due when it is much already."""
    planned: list[tuple[Job, Planned]] = []
    shards = 0
    for job in due:
        planned.append((job, each := plan(job)))
        shards += sum(run.total for run in each.runs)
        if shards >= SHARDS_A_ROUND:
            break
    doubtful = [run for job, each in planned for run in each.runs if is_doubtful(job, run)]
    known = _known(books, doubtful)
    return [without(each, known) for _, each in planned]


def _known(books: Books, doubtful: Sequence[Run]) -> set[RunId]:
    """Runs whose cause and key another one has. First what has not ended: what ends meanwhile is history then."""
    if not doubtful:
        return set()
    keys = [(run.job_id, CAUSE_CODES[run.cause], run.key) for run in doubtful]
    known = _KNOWN_SQLITE if books.connection.dialect.name == "sqlite" else _KNOWN
    texts = [known.replace("{table}", table) for table in ("runs", "ended_runs")]
    found = {tuple(row) for text in texts for row in many.fetch(books.connection, text, keys)}
    return {run.id for run, key in zip(doubtful, keys, strict=True) if key in found}


def _added(books: Books, new: Sequence[Run], takers: Takers | None) -> tuple[Sequence[Run], Sequence[Assignment]]:
    """Writes runs down, what has room already leased: one step less than if it waited for the dispatcher."""
    fresh, owners = books.fresh(new), {run.id: run for run in new}
    offered = {key: shard for key, shard in fresh.items() if takers and _is_offered(owners[key.run_id], takers)}
    leased = lease_to(takers, offered, owners, books.now) if takers else {}
    for run_id in {key.run_id for key in leased}:
        owners[run_id] = settled(owners[run_id], _UNDER_WAY, books.now)
    books.add(list(owners.values()), {**fresh, **leased})
    return list(owners.values()), [Assignment(shard, owners[key.run_id], {}) for key, shard in leased.items()]


def _is_offered(run: Run, takers: Takers) -> bool:
    offer = takers.offers.get(run.group)
    return offer is not None and run.handler in offer.handlers


def claim_queued(books: Books, limit: int) -> Turned:
    """Jobs and runs that another admin has in hand are left to it."""
    locked = many.fetch(books.connection, _JOBS, _waiting_jobs(books, limit), lock=Lock.SKIP)
    turns = [turn(active) for active in _active_runs(books, [JobId(key) for (key,) in locked])]
    mine = books.load_runs([run.id for each in turns for run in (*each.start, *each.skip)], lock=Lock.SKIP)
    started = [run._replace(is_queued=False) for run in _held(mine, (run for each in turns for run in each.start))]
    books.begin(started)
    skipped = _held(mine, (run for each in turns for run in each.skip))
    ended = [ended_unbegun(run, RunState.SKIPPED, REPLACED, books.now) for run in skipped]
    books.end(ended, {})
    return Turned(started, ended, [run for each in turns for run in each.stop])


def _waiting_jobs(books: Books, limit: int) -> Sequence[JobId]:
    """Jobs of which nothing is under way but something is queued, and those where something replaces it."""
    queued, begun = runs.alias("queued"), runs.alias("begun")
    is_begun = (begun.c.job_id == queued.c.job_id) & begun.c.queued.is_(None)
    is_free = (queued.c.queued == QUEUED) & ~exists().where(is_begun)
    query = select(queued.c.job_id).where(queued.c.queued.is_not(None), is_free | (queued.c.queued == REPLACING))
    return [JobId(key) for key in books.connection.scalars(query.distinct().limit(limit))]


def _active_runs(books: Books, ids: Sequence[JobId]) -> Iterable[Sequence[Run]]:
    """All that have not ended, by job; those that end meanwhile are in nobody's way."""
    rows = many.fetch(books.connection, _OF_JOBS, ids)
    known = books.definitions.get(books.connection, {definition_id_of(row) for row in rows})
    by_job: defaultdict[JobId, list[Run]] = defaultdict(list)
    for row in rows:
        run = run_of(row, known[definition_id_of(row)])
        by_job[run.job_id].append(run)
    return by_job.values()


def _held(mine: Mapping[RunId, Run], wanted: Iterable[Run]) -> list[Run]:
    """Those whose rows are locked, and still wait."""
    return [mine[run.id] for run in wanted if run.id in mine and mine[run.id].is_queued]
