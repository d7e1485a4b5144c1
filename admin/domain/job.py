"""The definition of a job, and a job as it is kept."""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from admin.domain.names import DefinitionId, Group, HandlerName, JobId, JobName
from admin.domain.retry import RetryPolicy
from admin.domain.trigger import Trigger, due_at

EXECUTORS = "executors"  # in place of a number of shards: as many as are alive when the run is made, at least 1
MAX_SHARDS = 1024
MOST_QUEUED = 100  # runs of a job that wait for an older one, unless the job says otherwise


class Overlap(enum.StrEnum):
    """What becomes of a run that is due while an older one of its job has not ended."""

    SKIP = enum.auto()
    QUEUE = enum.auto()
    REPLACE = enum.auto()
    ALLOW = enum.auto()


class Misfire(enum.StrEnum):
    """What becomes of fire times that nobody could serve in time."""

    FIRE_ONCE = enum.auto()
    SKIP = enum.auto()
    FIRE_ALL = enum.auto()


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """What a user writes. Build it with `form.definition_of`, which checks it."""

    name: JobName
    group: Group
    handler: HandlerName
    trigger: Trigger
    shards: int | None  # None: as many as executors are alive
    params: str  # a JSON object
    retry: RetryPolicy
    timeout: timedelta | None  # of one attempt
    overlap: Overlap
    misfire: Misfire
    overlap_limit: int | None = None  # queue: how many may wait; allow: how many may be active


class Job(NamedTuple):
    """A job as it is kept; the version rises with each edit."""

    id: JobId
    definition_id: DefinitionId
    definition: JobDefinition
    is_paused: bool
    version: int
    created_at: datetime
    updated_at: datetime
    next_fire_at: datetime | None  # nominal
    last_fire_at: datetime | None = None
    """The last fire time that led to a run: a clock that is set back names none again."""

    @property
    def name(self) -> JobName:
        return self.definition.name

    @property
    def next_due_at(self) -> datetime | None:
        """When the next fire is served: behind its nominal time by its jitter."""
        fire_at = self.next_fire_at
        return None if fire_at is None else due_at(self.definition.trigger, fire_at, self.name)
