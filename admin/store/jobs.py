"""Jobs in SQL."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from admin.domain.errors import JobActive, JobExists, UnknownJob, VersionConflict
from admin.domain.job import Job, JobDefinition
from admin.domain.names import DefinitionId, Group, JobId, JobName
from admin.domain.overlap import Active
from admin.domain.run import Cause
from admin.domain.trigger import delay_of
from admin.ports import Edit, First
from admin.store.databases import many
from admin.store.databases.database import Database
from admin.store.databases.many import Lock, Raw
from admin.store.runs.definitions import Definitions
from admin.store.runs.rows import CAUSE_CODES, Values, instant_of, ms_of
from admin.store.tables import jobs
from admin.store.types import NUL, is_storable

_NEW = DefinitionId(0)
_COLUMNS = ", ".join(column.name for column in jobs.c)
_BY_ID = f"SELECT {_COLUMNS} FROM jobs WHERE id IN ({{keys}}) ORDER BY id"
_DUE = f"SELECT {_COLUMNS} FROM jobs WHERE due_ms <= {{keys}} ORDER BY due_ms LIMIT {{limit}}"
_AWAITED = (
    "SELECT DISTINCT r.job_id, r.definition_id FROM runs r"
    " JOIN jobs j ON j.id = r.job_id AND j.last_fire_ms = r.fire_ms"
    f" WHERE r.job_id IN ({{keys}}) AND r.cause = {CAUSE_CODES[Cause.FIRE]}"
)
_ACTIVE = "SELECT job_id, queued, count(*) FROM runs WHERE job_id IN ({keys}) GROUP BY job_id, queued"


class SqlJobs:
    """Implements JobStore."""

    def __init__(self, database: Database, definitions: Definitions) -> None:
        self._database = database
        self._definitions = definitions

    async def add(self, definition: JobDefinition, first: First) -> Job:
        def work(connection: Connection) -> Job:
            now = self._database.now(connection)
            if connection.scalar(select(jobs.c.name).where(jobs.c.name == definition.name)) is not None:
                raise JobExists(name=definition.name)
            job = Job(JobId(0), _NEW, definition, False, 1, now, now, first(now))
            try:
                key = connection.execute(insert(jobs).values(_values(job))).inserted_primary_key
            except IntegrityError as error:  # another admin was first
                raise JobExists(name=definition.name) from error
            assert key is not None
            return self._kept(connection, job._replace(id=JobId(key[0])))

        return await self._database.write(work)

    async def add_version(self, name: JobName, edit: Edit, expected: int | None) -> Job:
        def work(connection: Connection) -> Job:
            now = self._database.now(connection)
            current = lock_job(connection, self._definitions, name, expected)
            is_awaited = current.id in awaits_end(connection, self._definitions, [current.id])
            job = edit(current, now, is_awaited)._replace(version=current.version + 1)
            if job.definition != current.definition:
                return self._kept(connection, job)
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(_values(job)))
            return job

        return await self._database.write(work)

    def _kept(self, connection: Connection, job: Job) -> Job:
        """With a copy of its definition that runs can refer to."""
        job = job._replace(definition_id=self._definitions.add(connection, job.id, job.definition))
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(_values(job)))
        return job

    async def get(self, name: JobName) -> Job:
        query = select(jobs).where(jobs.c.name == name)
        return await self._database.read(lambda connection: _one(connection, self._definitions, query, name))

    async def list(self, *, group: Group | None, after: JobName | None, limit: int) -> Sequence[Job]:
        query = select(jobs).order_by(jobs.c.name).limit(limit)
        if group is not None and not is_storable(group):
            return []
        if group is not None:
            query = query.where(jobs.c.group_name == group)
        if after is not None:
            query = query.where(jobs.c.name > after.partition(NUL)[0])  # behind which the same names come

        def work(connection: Connection) -> Sequence[Job]:
            return _jobs_of(connection, self._definitions, connection.execute(query).all())

        return await self._database.read(work)

    async def cancel(self, name: JobName, expected: int | None) -> None:
        def work(connection: Connection) -> None:
            job = lock_job(connection, self._definitions, name, expected)
            if active_of(connection, [job.id]):
                raise JobActive(name=name)
            connection.execute(delete(jobs).where(jobs.c.id == job.id))

        await self._database.write(work)


def lock_job(connection: Connection, definitions: Definitions, name: JobName, expected: int | None = None) -> Job:
    """The job, its row locked where the database locks rows. Raises UnknownJob, VersionConflict."""
    job = _one(connection, definitions, select(jobs).where(jobs.c.name == name).with_for_update(), name)
    if expected is not None and job.version != expected:
        raise VersionConflict(name=name, current=job.version, expected=expected)
    return job


def load_jobs(connection: Connection, definitions: Definitions, ids: Iterable[JobId]) -> list[Job]:
    """Those that are still there, their rows locked in the order of their ids."""
    return _jobs_of(connection, definitions, many.fetch(connection, _BY_ID, sorted(ids), lock=Lock.WAIT))


def due_jobs(connection: Connection, definitions: Definitions, now: datetime, limit: int) -> list[Job]:
    """The first that are due, their rows locked; without those that another admin has locked."""
    rows = many.fetch(connection, _DUE.replace("{limit}", str(limit)), [ms_of(now)], lock=Lock.SKIP)
    return _jobs_of(connection, definitions, rows)


def next_due_ms(connection: Connection) -> int | None:
    """When the next job is due."""
    found: int | None = connection.exec_driver_sql("SELECT min(due_ms) FROM jobs").scalar()
    return found


def move_jobs(connection: Connection, moved: Sequence[Job]) -> None:
    """Keeps their next and last fire times."""
    rows = [
        {
            "id": job.id,
            "fire_ms": ms_of(job.next_fire_at),
            "due_ms": ms_of(job.next_due_at),
            "last_fire_ms": ms_of(job.last_fire_at),
        }
        for job in moved
    ]
    many.update(connection, jobs, ("id",), rows)


def active_of(connection: Connection, ids: Sequence[JobId]) -> Mapping[JobId, Active]:
    """How many runs of the jobs have not ended; of those that have any."""
    found: dict[JobId, Active] = {}
    for key, queued, count in many.fetch(connection, _ACTIVE, ids):
        before = found.get(JobId(key), Active())
        more = Active(count, 0) if queued is None else Active(0, count)
        found[JobId(key)] = Active(before.begun + more.begun, before.queued + more.queued)
    return found


def awaits_end(connection: Connection, definitions: Definitions, ids: Sequence[JobId]) -> set[JobId]:
    """Those of the jobs of which the run of the last fire, one with a fixed delay, has not ended."""
    rows = many.fetch(connection, _AWAITED, ids)
    known = definitions.get(connection, {DefinitionId(definition) for _, definition in rows})
    return {JobId(key) for key, definition in rows if delay_of(known[DefinitionId(definition)].trigger) is not None}


def _jobs_of(connection: Connection, definitions: Definitions, rows: Sequence[Raw]) -> list[Job]:
    known = definitions.get(connection, {DefinitionId(row[3]) for row in rows})
    return [_job_of(row, known[DefinitionId(row[3])]) for row in rows]


def _one(connection: Connection, definitions: Definitions, query: Select[*tuple[object, ...]], name: JobName) -> Job:
    found = _jobs_of(connection, definitions, connection.execute(query).all()) if is_storable(name) else []
    if not found:
        raise UnknownJob(name=name)
    return found[0]


def _job_of(row: Raw, definition: JobDefinition) -> Job:
    key, _, _, definition_id, version, is_paused, fire_ms, _, last_fire_ms, created_ms, updated_ms = row
    return Job(
        JobId(key),
        DefinitionId(definition_id),
        definition,
        bool(is_paused),
        version,
        instant_of(created_ms),
        instant_of(updated_ms),
        instant_of(fire_ms),
        instant_of(last_fire_ms),
    )


def _values(job: Job) -> Values:
    return {
        "name": job.name,
        "group_name": job.definition.group,
        "definition_id": job.definition_id,
        "version": job.version,
        "is_paused": job.is_paused,
        "fire_ms": ms_of(job.next_fire_at),
        "due_ms": ms_of(job.next_due_at),
        "last_fire_ms": ms_of(job.last_fire_at),
        "created_ms": ms_of(job.created_at),
        "updated_ms": ms_of(job.updated_at),
    }
