"""Jobs in SQL."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from admin.domain.errors import JobActive, JobExists, UnknownJob, VersionConflict
from admin.domain.job import Job, JobDefinition
from admin.domain.names import Group, JobName
from admin.domain.run import ACTIVE
from admin.store.database import Database
from admin.store.rows import job_of, job_values
from admin.store.tables import jobs, runs


class SqlJobs:
    """Implements JobStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, definition: JobDefinition, now: datetime, next_fire_at: datetime | None) -> Job:
        job = Job(definition, False, 1, now, now, next_fire_at)

        def work(connection: Connection) -> Job:
            if connection.scalar(select(jobs.c.name).where(jobs.c.name == job.name)) is not None:
                raise JobExists(name=job.name)
            connection.execute(insert(jobs).values(job_values(job)))
            return job

        return await self._database.write(work)

    async def add_version(self, name: JobName, edit: Callable[[Job], Job], expected: int | None) -> Job:
        def work(connection: Connection) -> Job:
            current = load_job(connection, name, expected)
            job = replace(edit(current), version=current.version + 1)
            connection.execute(update(jobs).where(jobs.c.name == name).values(job_values(job)))
            return job

        return await self._database.write(work)

    async def get(self, name: JobName) -> Job:
        return await self._database.read(lambda connection: load_job(connection, name))

    async def list(self, *, group: Group | None, after: JobName | None, limit: int) -> Sequence[Job]:
        query = select(jobs).order_by(jobs.c.name).limit(limit)
        if group is not None:
            query = query.where(jobs.c.group_name == group)
        if after is not None:
            query = query.where(jobs.c.name > after)
        return await self._database.read(lambda connection: [job_of(row) for row in connection.execute(query)])

    async def cancel(self, name: JobName, expected: int | None) -> None:
        def work(connection: Connection) -> None:
            load_job(connection, name, expected)
            if has_active_runs(connection, name):
                raise JobActive(name=name)
            connection.execute(delete(jobs).where(jobs.c.name == name))

        await self._database.write(work)


def load_job(connection: Connection, name: JobName, expected: int | None = None) -> Job:
    """The job, its row locked where the database locks rows. Raises UnknownJob, VersionConflict."""
    row = connection.execute(select(jobs).where(jobs.c.name == name).with_for_update()).one_or_none()
    if row is None:
        raise UnknownJob(name=name)
    if expected is not None and row.version != expected:
        raise VersionConflict(name=name, current=row.version, expected=expected)
    return job_of(row)


def has_active_runs(connection: Connection, name: JobName) -> bool:
    query = select(runs.c.id).where(runs.c.job == name, runs.c.state.in_([str(state) for state in ACTIVE])).limit(1)
    return connection.scalar(query) is not None
