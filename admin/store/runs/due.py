"""From due jobs and queued runs to runs that may be assigned; each job is decided on under the lock of its row."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from sqlalchemy import exists, func, select, tuple_

from admin.domain.names import JobId, RunId
from admin.domain.overlap import REPLACED, Active, turn
from admin.domain.run import Run, RunState, ended_unbegun
from admin.ports import Due, Plan, Turned
from admin.store.jobs import active_of, jobs_of, move_jobs
from admin.store.runs.books import Books, chunks
from admin.store.runs.rows import NOT_QUEUED, QUEUED, REPLACING, ms_of, run_of
from admin.store.tables import ended_runs, jobs, runs

Key = tuple[JobId, str, str]


def claim_due(books: Books, limit: int, plan: Plan) -> Due:
    now, connection = books.now, books.connection
    query = select(jobs).where(jobs.c.due_ms <= ms_of(now)).order_by(jobs.c.due_ms).limit(limit)
    due = jobs_of(connection, books.definitions, query.with_for_update(skip_locked=True))
    active = active_of(connection, [job.id for job in due])
    planned = [plan(job, now, active.get(job.id, Active())) for job in due]
    new = _unknown(books, [run for each in planned for run in each.runs])
    books.add(new)
    move_jobs(connection, [each.job for each in planned])
    next_ms = connection.scalar(select(func.min(jobs.c.due_ms)))
    wait = None if next_ms is None else timedelta(milliseconds=max(0, int(next_ms) - ms_of(now)))
    return Due(len(due), new, wait)


def _unknown(books: Books, wanted: Sequence[Run]) -> list[Run]:
    """Without those whose fire led to a run before: a clock that is set back names fire times anew."""
    known = set(_known(books, wanted))
    return [run for run in wanted if (run.job_id, run.cause, run.key) not in known]


def _known(books: Books, wanted: Sequence[Run]) -> Iterable[Key]:
    """First what has not ended: a run that ends meanwhile is found in the history then."""
    for table in (runs, ended_runs):
        key = tuple_(table.c.job_id, table.c.cause, table.c.run_key)
        for chunk in chunks([(run.job_id, run.cause, run.key) for run in wanted]):
            query = select(table.c.job_id, table.c.cause, table.c.run_key).where(key.in_(chunk))
            yield from ((JobId(job_id), cause, text) for job_id, cause, text in books.connection.execute(query))


def claim_queued(books: Books, limit: int) -> Turned:
    """Jobs and runs that another admin has in hand are left to it."""
    turns = [turn(active) for active in _active_runs(books, _lock_jobs(books, _waiting_jobs(books, limit)))]
    mine = books.load_runs([run.id for each in turns for run in (*each.start, *each.skip)], skip_locked=True)
    started = [run._replace(is_queued=False) for run in _held(mine, (run for each in turns for run in each.start))]
    books.begin(started)
    skipped = _held(mine, (run for each in turns for run in each.skip))
    ended = [ended_unbegun(run, RunState.SKIPPED, REPLACED, books.now) for run in skipped]
    books.end(ended, {})
    return Turned(started, ended, [run for each in turns for run in each.stop])


def _waiting_jobs(books: Books, limit: int) -> Sequence[JobId]:
    """Jobs of which nothing is under way but something is queued, and those where something replaces it."""
    queued, begun = runs.alias("queued"), runs.alias("begun")
    is_begun = (begun.c.job_id == queued.c.job_id) & (begun.c.queued == NOT_QUEUED)
    is_free = (queued.c.queued == QUEUED) & ~exists().where(is_begun)
    query = select(queued.c.job_id).where(is_free | (queued.c.queued == REPLACING)).distinct().limit(limit)
    return [JobId(key) for key in books.connection.scalars(query)]


def _lock_jobs(books: Books, ids: Sequence[JobId]) -> list[JobId]:
    """Those that nobody else holds; a job that was deleted has no runs that wait."""
    query = select(jobs.c.id).where(jobs.c.id.in_(ids)).with_for_update(skip_locked=True)
    return [JobId(key) for key in books.connection.scalars(query)] if ids else []


def _active_runs(books: Books, ids: Sequence[JobId]) -> Iterable[Sequence[Run]]:
    """All that have not ended, by job; those that end meanwhile are in nobody's way."""
    by_job: defaultdict[JobId, list[Run]] = defaultdict(list)
    for chunk in chunks(ids):
        rows = books.connection.execute(select(runs).where(runs.c.job_id.in_(chunk))).all()
        known = books.definitions.get(books.connection, {row.definition_id for row in rows})
        for row in rows:
            by_job[JobId(row.job_id)].append(run_of(row, known[row.definition_id]))
    return by_job.values()


def _held(mine: Mapping[RunId, Run], wanted: Iterable[Run]) -> list[Run]:
    """Those whose rows are locked, and still wait."""
    return [mine[run.id] for run in wanted if run.id in mine and mine[run.id].is_queued]
