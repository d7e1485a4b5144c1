"""Jobs in SQL."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from admin.domain.errors import JobActive, JobExists, UnknownJob, VersionConflict
from admin.domain.job import Job, JobDefinition
from admin.domain.names import DefinitionId, Group, JobId, JobName
from admin.domain.overlap import Active
from admin.ports import Edit, First
from admin.store.databases import many
from admin.store.databases.database import Database
from admin.store.runs.definitions import CHUNK, Definitions
from admin.store.runs.rows import NOT_QUEUED, Values, instant_of, ms_of
from admin.store.tables import jobs, runs

_NEW = DefinitionId(0)


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
            key = connection.execute(insert(jobs).values(_values(job))).inserted_primary_key
            assert key is not None
            return self._kept(connection, job._replace(id=JobId(key[0])))

        return await self._database.write(work)

    async def add_version(self, name: JobName, edit: Edit, expected: int | None) -> Job:
        def work(connection: Connection) -> Job:
            now = self._database.now(connection)
            current = lock_job(connection, self._definitions, name, expected)
            job = edit(current, now)._replace(version=current.version + 1)
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
        if group is not None:
            query = query.where(jobs.c.group_name == group)
        if after is not None:
            query = query.where(jobs.c.name > after)
        return await self._database.read(lambda connection: jobs_of(connection, self._definitions, query))

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


def load_jobs(connection: Connection, definitions: Definitions, ids: Collection[JobId]) -> list[Job]:
    """Those that are still there, their rows locked in the order of their ids."""
    found: list[Job] = []
    in_order = sorted(ids)
    for start in range(0, len(in_order), CHUNK):
        query = select(jobs).where(jobs.c.id.in_(in_order[start : start + CHUNK])).order_by(jobs.c.id)
        found += jobs_of(connection, definitions, query.with_for_update())
    return found


def jobs_of(connection: Connection, definitions: Definitions, query: Select[*tuple[object, ...]]) -> list[Job]:
    """What a query for jobs finds."""
    rows = connection.execute(query).all()
    known = definitions.get(connection, {row.definition_id for row in rows})
    return [_job_of(row, known[row.definition_id]) for row in rows]


def move_jobs(connection: Connection, moved: Sequence[Job]) -> None:
    """Keeps their next fire times."""
    rows = [{"id": job.id, "fire_ms": ms_of(job.next_fire_at), "due_ms": ms_of(job.next_due_at)} for job in moved]
    many.update(connection, jobs, ("id",), rows)


def active_of(connection: Connection, ids: Collection[JobId]) -> Mapping[JobId, Active]:
    """How many runs of the jobs have not ended; of those that have any."""
    found: dict[JobId, Active] = {}
    in_order = sorted(ids)
    for start in range(0, len(in_order), CHUNK):
        query = select(runs.c.job_id, runs.c.queued, func.count()).group_by(runs.c.job_id, runs.c.queued)
        for key, queued, count in connection.execute(query.where(runs.c.job_id.in_(in_order[start : start + CHUNK]))):
            before = found.get(JobId(key), Active())
            more = Active(count, 0) if queued == NOT_QUEUED else Active(0, count)
            found[JobId(key)] = Active(before.begun + more.begun, before.queued + more.queued)
    return found


def _one(connection: Connection, definitions: Definitions, query: Select[*tuple[object, ...]], name: JobName) -> Job:
    found = jobs_of(connection, definitions, query)
    if not found:
        raise UnknownJob(name=name)
    return found[0]


def _job_of(row: Row[*tuple[object, ...]], definition: JobDefinition) -> Job:
    return Job(
        id=JobId(row.id),
        definition_id=DefinitionId(row.definition_id),
        definition=definition,
        is_paused=row.is_paused,
        version=row.version,
        created_at=instant_of(row.created_ms),
        updated_at=instant_of(row.updated_ms),
        next_fire_at=instant_of(row.fire_ms),
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
        "created_ms": ms_of(job.created_at),
        "updated_ms": ms_of(job.updated_at),
    }
