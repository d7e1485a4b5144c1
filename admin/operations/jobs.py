"""Jobs: create, edit, pause, trigger."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from admin.domain.errors import IdempotencyConflict, JobExists, JobPaused
from admin.domain.form import params_text
from admin.domain.job import Job, JobDefinition
from admin.domain.names import Group, JobName, RunId
from admin.domain.overlap import Active
from admin.domain.plan import Order, fire_of_edited, run_of
from admin.domain.run import Cause, Run
from admin.domain.trigger import MANUAL, Trigger, checked_fires, first_fire, preview
from admin.operations.fleet import Alive, Fleet
from admin.operations.keys import checked_key
from admin.operations.paging import Page, page_of
from admin.ports import Clock, JobStore, RunStore, Wakeup
from protos.errors import InvalidArgument

MAX_PREVIEW = 1000


@dataclass(frozen=True, slots=True)
class Jobs:
    """What can be done to jobs."""

    jobs: JobStore
    runs: RunStore
    fleet: Fleet
    wakeup: Wakeup
    clock: Clock
    new_run_id: Callable[[], RunId]

    async def create(self, definition: JobDefinition, key: str | None = None) -> Job:
        """With an idempotency key the same job may be created again, which changes nothing.

        Raises JobExists, NeverFires, InvalidJob, InvalidParams.
        """
        alive = self.fleet.alive()

        def first(now: datetime) -> datetime | None:
            _check_params(alive, definition)
            return first_fire(checked_fires(definition.trigger, now), now)

        try:
            job = await self.jobs.add(definition, first)
        except JobExists:
            job = await self.jobs.get(definition.name)
            if key is None or job.definition != definition:
                raise
            return job
        self.wakeup.ring("planner")
        return job

    async def get(self, name: JobName) -> Job:
        """Raises UnknownJob."""
        return await self.jobs.get(name)

    async def list(self, *, group: Group | None, after: str | None, size: int) -> Page[Job]:
        found = await self.jobs.list(group=group, after=JobName(after) if after else None, limit=size + 1)
        return page_of(found, size, lambda job: job.name)

    async def update(self, definition: JobDefinition, expected: int | None) -> Job:
        """Replaces the definition; runs that exist keep theirs.

        Raises UnknownJob, VersionConflict, NeverFires, InvalidJob, InvalidParams.
        """
        alive = self.fleet.alive()

        def edit(job: Job, now: datetime) -> Job:
            _check_params(alive, definition)
            checked_fires(definition.trigger, now)
            return job._replace(definition=definition)

        return await self._edit(definition.name, edit, expected)

    async def pause(self, name: JobName) -> Job:
        """No fires, and no runs by hand, until it is resumed; runs that exist go on. Raises UnknownJob."""
        return await self._edit(name, lambda job, now: job._replace(is_paused=True), None)

    async def resume(self, name: JobName) -> Job:
        """Goes on with the next fire time behind now. Raises UnknownJob, NeverFires."""

        def edit(job: Job, now: datetime) -> Job:
            checked_fires(job.definition.trigger, now, is_new=False)
            return job._replace(is_paused=False)

        return await self._edit(name, edit, None)

    async def delete(self, name: JobName, expected: int | None) -> None:
        """Raises UnknownJob, VersionConflict, JobActive."""
        await self.jobs.cancel(name, expected)

    async def trigger(self, name: JobName, params: Mapping[str, object], key: str | None) -> Run:
        """Writes down a run now; its params are laid over the job's. The same key gives the same run.

        Raises UnknownJob, JobPaused, UnknownHandler, IdempotencyConflict, InvalidArgument, InvalidParams.
        """
        run_id, alive = self.new_run_id(), self.fleet.alive()
        run_key = checked_key(key) or run_id

        def made(job: Job, now: datetime, active: Active) -> Run:
            definition, whole = job.definition, _laid_over(job.definition.params, params)
            check_runs(job)
            alive.check(definition.group, definition.handler)
            alive.check_params(definition.group, definition.handler, whole)
            order = Order(run_id, Cause.MANUAL, run_key, now, params=whole)
            return run_of(job, order, now, active, executors=alive.count(definition.group))

        run = await self.runs.add(name, Cause.MANUAL, run_key, made)
        if run.id != run_id and run.params != _laid_over(run.params, params):
            raise IdempotencyConflict(key=key)
        self.wakeup.ring("starter" if run.is_queued else "dispatcher")
        return alive.explained(run)

    def preview(self, trigger: Trigger, after: datetime | None, count: int) -> Sequence[datetime]:
        """The next fire times of a trigger."""
        return preview(trigger, after or self.clock(), min(count, MAX_PREVIEW))

    async def _edit(self, name: JobName, edit: Callable[[Job, datetime], Job], expected: int | None) -> Job:
        def edited(job: Job, now: datetime, awaits_end: bool) -> Job:
            new = edit(job, now)
            next_fire_at = fire_of_edited(job, new, now, awaits_end=awaits_end)
            return new._replace(next_fire_at=next_fire_at, updated_at=now)

        job = await self.jobs.add_version(name, edited, expected)
        self.wakeup.ring("planner")
        return job


def check_runs(job: Job) -> None:
    """Raises JobPaused for a job that nobody may start."""
    if job.is_paused:
        raise JobPaused(name=job.name)


def _check_params(alive: Alive, definition: JobDefinition) -> None:
    """A job that is started by hand alone may leave to the call what the handler needs. Raises InvalidParams."""
    is_partial = definition.trigger == MANUAL
    alive.check_params(definition.group, definition.handler, definition.params, is_partial=is_partial)


def _laid_over(text: str, params: Mapping[str, object]) -> str:
    """Raises InvalidArgument for what cannot be kept."""
    try:
        return params_text({**json.loads(text), **params})
    except ValueError as error:
        raise InvalidArgument(reason=f"params: {error}") from error
