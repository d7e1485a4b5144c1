"""Jobs in memory."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from admin.domain.errors import JobActive, JobExists
from admin.domain.job import Job
from admin.domain.names import DefinitionId, JobId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from admin.domain.job import JobDefinition
    from admin.domain.names import Group, JobName
    from admin.ports import Edit, First
    from admin.store.memory.books import Books


class MemoryJobs:
    """Implements JobStore."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def add(self, definition: JobDefinition, first: First) -> Job:
        books = self._books
        if definition.name in books.jobs:
            raise JobExists(name=definition.name)
        now = books.begin()
        job_id, definition_id = JobId(books.next_number()), DefinitionId(books.next_number())
        job = Job(job_id, definition_id, definition, False, 1, now, now, first(now))
        books.jobs[job.name] = job
        return job

    async def add_version(self, name: JobName, edit: Edit, expected: int | None) -> Job:
        books = self._books
        current = books.job(name, expected)
        job = edit(current, books.begin(), books.awaits_end(current))._replace(version=current.version + 1)
        if job.definition != current.definition:
            job = job._replace(definition_id=DefinitionId(books.next_number()))
        books.jobs[name] = job
        return job

    async def get(self, name: JobName) -> Job:
        return self._books.job(name)

    async def list(self, *, group: Group | None, after: JobName | None, limit: int) -> Sequence[Job]:
        found = sorted(self._books.jobs.values(), key=attrgetter("name"))
        fitting = (job for job in found if group in (None, job.definition.group) and job.name > (after or ""))
        return [job for job, _ in zip(fitting, range(limit), strict=False)]

    async def cancel(self, name: JobName, expected: int | None) -> None:
        job = self._books.job(name, expected)
        if self._books.active_runs(job.id):
            raise JobActive(name=name)
        del self._books.jobs[name]
