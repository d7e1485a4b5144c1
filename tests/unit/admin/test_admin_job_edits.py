"""A job whose trigger never fires again is neither made nor edited nor resumed."""

from datetime import timedelta

import pytest

from admin.domain.errors import NeverFires
from admin.domain.names import JobName
from admin.operations.fleet import Fleet
from admin.operations.jobs import Jobs
from admin.store.memory.books import Books
from admin.store.memory.jobs import MemoryJobs
from admin.store.memory.runs import MemoryRuns
from tests.support.admin_factories import LEASE, NOW, definition

pytestmark = pytest.mark.anyio

PUSH = JobName("push")
OVER = {"cron": "0 0 0 1 1 ? 2026"}
SOON_OVER = {"every": "1h", "end": (NOW + timedelta(hours=2)).isoformat()}


class _Silent:
    def ring(self, name: str) -> None:
        pass


class _Clock:
    now = NOW

    def __call__(self):
        return self.now


class _Nobody:
    def list(self):
        return []


def _jobs(clock: _Clock) -> Jobs:
    books = Books(clock)
    return Jobs(MemoryJobs(books), MemoryRuns(books), Fleet(_Nobody(), clock, LEASE), _Silent(), clock, None)


async def test_a_job_that_never_fires_is_not_made():
    jobs = _jobs(_Clock())
    with pytest.raises(NeverFires):
        await jobs.create(definition(trigger=OVER))
    assert (await jobs.create(definition(trigger={"manual": True}))).next_fire_at is None
    with pytest.raises(NeverFires):
        await jobs.update(definition(trigger=OVER), None)


async def test_a_job_whose_fires_are_over_is_not_resumed():
    clock = _Clock()
    jobs = _jobs(clock)
    await jobs.create(definition(trigger=SOON_OVER))
    await jobs.pause(PUSH)
    assert (await jobs.resume(PUSH)).next_fire_at == NOW + timedelta(hours=1)
    await jobs.pause(PUSH)
    clock.now = NOW + timedelta(hours=3)
    with pytest.raises(NeverFires):
        await jobs.resume(PUSH)
    assert (await jobs.get(PUSH)).is_paused


async def test_an_instant_that_has_passed_is_late_and_may_be_saved():
    late = (NOW - timedelta(hours=1)).isoformat()
    job = await _jobs(_Clock()).create(definition(trigger={"at": late}))
    assert job.next_fire_at == NOW - timedelta(hours=1)
