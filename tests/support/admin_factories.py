"""Jobs, runs and shards for tests, complete but for what a test is about."""

from datetime import UTC, datetime, timedelta

from admin.domain.form import definition_of
from admin.domain.job import Job
from admin.domain.names import DefinitionId, ExecutorId, JobId, RunId
from admin.domain.overlap import Active
from admin.domain.plan import Order, run_of
from admin.domain.run import Cause, Run
from admin.domain.shard import Shard, ShardState

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
LEASE = timedelta(seconds=5)
ONE = ExecutorId("one")
NONE = Active()


def definition(**fields: object):
    return definition_of({"name": "push", "group": "promotion", "handler": "push", **fields})


def job(*, next_fire_at: datetime | None = None, **fields: object) -> Job:
    return Job(JobId(1), DefinitionId(1), definition(**fields), False, 1, NOW, NOW, next_fire_at)


def run_id(number: int) -> RunId:
    return RunId(f"00000000-0000-7000-8000-{number:012}")


def order(number: int = 1, *, cause: Cause = Cause.MANUAL, key: str | None = None, fire_at: datetime = NOW) -> Order:
    return Order(run_id(number), cause, key or run_id(number), fire_at)


def run(number: int = 1, *, active: Active = NONE, **fields: object) -> Run:
    return run_of(job(**fields), order(number), NOW, active, executors=0)


def shard(state: ShardState = ShardState.RUNNING, **fields: object) -> Shard:
    held = state in (ShardState.ASSIGNED, ShardState.RUNNING)
    values = {
        "run_id": order().id,
        "index": 0,
        "total": 1,
        "due_at": NOW,
        "attempt": 1,
        "term": 3,
        "holder": ONE,
        "leased_until_at": NOW + LEASE if held else None,
        **fields,
    }
    return Shard(state=state, **values)
