"""Runs looked up and listed, wherever they are. First what has not ended: a run that ends between two looks is found in
the history then.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter

from sqlalchemy import ColumnElement, Select, Table, select

from admin.domain.errors import UnknownRun
from admin.domain.job import JobDefinition
from admin.domain.names import JobId, JobName, RunId
from admin.domain.run import ACTIVE, Cause, Run, RunState
from admin.domain.shard import Shard
from admin.store.databases.many import Lock, Raw
from admin.store.runs import history
from admin.store.runs.books import Books
from admin.store.runs.rows import CAUSE_CODES, RUN_CODES, definition_id_of, run_of
from admin.store.tables import definitions, ended_runs, runs
from admin.store.types import is_storable, uuid_bytes

Of = Callable[[Raw, JobDefinition], Run]

_ENDED = [state for state in RunState if state not in ACTIVE]


def load(books: Books, run_id: RunId) -> tuple[Run, Sequence[Shard]]:
    """A run and its shards by index. Raises UnknownRun."""
    if (run := books.load_runs([run_id], lock=Lock.NONE).get(run_id)) is not None and (
        shards := books.load_all(run, lock=Lock.NONE).shards
    ):
        return run, list(shards.values())
    ended = history.load(books.connection, books.definitions, [run_id], lock=Lock.NONE).get(run_id)
    if ended is None:
        raise UnknownRun(run_id=run_id)
    return ended.run, ended.shards


def with_key(books: Books, job_id: JobId, cause: Cause, key: str) -> Run | None:
    """The run that a job has for a cause and key; nobody adds one while the job's row is locked."""
    for table, of in ((runs, run_of), (ended_runs, history.run_of)):
        query = select(table).where(
            table.c.job_id == job_id, table.c.cause == CAUSE_CODES[cause], table.c.run_key == key
        )
        if found := list(_runs(books, query, of)):
            return found[0]
    return None


def list_runs(
    books: Books, job: JobName | None, state: RunState | None, before: RunId | None, limit: int
) -> Sequence[Run]:
    """Newest first."""
    ids = None if job is None else _ids_of(books, job)
    pages = [list(_runs(books, query.limit(limit), of)) for query, of in _queries(ids, state, before)]
    newest_first = merge(*pages, key=attrgetter("id"), reverse=True)
    by_id = {run.id: run for run in newest_first}  # who ended between two looks is there twice; the history is right
    return list(islice(by_id.values(), limit))


def _ids_of(books: Books, job: JobName) -> Sequence[JobId]:
    """Of the job that has the name, and of those that had it."""
    if not is_storable(job):
        return []
    query = select(definitions.c.job_id).where(definitions.c.job == job).distinct()
    return [JobId(key) for key in books.connection.scalars(query)]


def _queries(
    ids: Sequence[JobId] | None, state: RunState | None, before: RunId | None
) -> Iterator[tuple[Select[*tuple[object, ...]], Of]]:
    """Each follows an index in the order of the page: by state, by job and state, or by id."""
    if state is None or state in ACTIVE:
        is_wanted = [] if state is None else [runs.c.state == RUN_CODES[state]]
        is_wanted += [] if ids is None else [runs.c.job_id.in_(ids)]
        yield _query(runs, is_wanted, before), run_of
    if state is not None and state in ACTIVE:
        return
    if ids is None:
        yield (
            _query(ended_runs, [] if state is None else [ended_runs.c.state == RUN_CODES[state]], before),
            history.run_of,
        )
        return
    for job_id in ids:
        for each in _ENDED if state is None else [state]:
            yield (
                _query(ended_runs, [ended_runs.c.job_id == job_id, ended_runs.c.state == RUN_CODES[each]], before),
                history.run_of,
            )


def _query(table: Table, is_wanted: Sequence[ColumnElement[bool]], before: RunId | None) -> Select[*tuple[object, ...]]:
    query = select(table).where(*is_wanted).order_by(table.c.id.desc())
    return query if before is None else query.where(table.c.id < uuid_bytes(before))


def _runs(books: Books, query: Select[*tuple[object, ...]], of: Of) -> Iterable[Run]:
    rows = books.connection.execute(query).all()
    known = books.definitions.get(books.connection, {definition_id_of(row) for row in rows})
    return (of(row, known[definition_id_of(row)]) for row in rows)
