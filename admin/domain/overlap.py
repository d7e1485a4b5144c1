"""What becomes of a run beside older ones of its job: decided once, under the job's lock, by planner and API alike."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from admin.domain.job import MOST_QUEUED, JobDefinition, Overlap
from admin.domain.run import Run

REPLACED = "a later run of the job replaces it (overlap: replace)"


@dataclass(frozen=True, slots=True)
class Active:
    """How many runs of a job have not ended."""

    begun: int = 0  # may be assigned, or are
    queued: int = 0  # wait for their turn

    @property
    def count(self) -> int:
        return self.begun + self.queued

    def behind(self, run: Run) -> "Active":
        """With one more run."""
        if run.is_over:
            return self
        return Active(self.begun + (not run.is_queued), self.queued + run.is_queued)


class Entry(enum.Enum):
    """How a new run begins."""

    START = enum.auto()
    QUEUE = enum.auto()
    SKIP = enum.auto()


def entry(definition: JobDefinition, active: Active) -> Entry:
    """How a run of this job begins while these are active."""
    limit = definition.overlap_limit
    match definition.overlap:
        case Overlap.ALLOW:
            return Entry.START if limit is None or active.count < limit else Entry.SKIP
        case _ if active.count == 0:
            return Entry.START
        case Overlap.SKIP:
            return Entry.SKIP
        case Overlap.QUEUE:
            return Entry.QUEUE if active.queued < (MOST_QUEUED if limit is None else limit) else Entry.SKIP
        case Overlap.REPLACE:
            return Entry.QUEUE


def reason_of_skip(definition: JobDefinition, active: Active) -> str:
    """Why the run is written down as skipped."""
    match definition.overlap:
        case Overlap.QUEUE:
            return f"as many runs of the job wait as may, {active.queued} (overlap: queue)"
        case Overlap.ALLOW:
            return f"as many runs of the job are active as may, {active.count} (overlap: allow)"
        case _:
            return "an earlier run of the job has not ended (overlap: skip)"


def reason_of_wait(definition: JobDefinition) -> str:
    """Why a run waits for its turn."""
    if definition.overlap is Overlap.REPLACE:
        return "it starts when the run that it replaces has stopped (overlap: replace)"
    return "an earlier run of the job has not ended (overlap: queue)"


@dataclass(frozen=True, slots=True)
class Turn:
    """What is to be done with the active runs of one job."""

    start: Sequence[Run] = ()
    skip: Sequence[Run] = ()
    stop: Sequence[Run] = ()  # to be cancelled; whoever replaces them starts when they have ended


def turn(active: Sequence[Run]) -> Turn:
    """Whose turn it is among all active runs of one job: the oldest that waits, once nothing else of the job is under
    way. One that replaces skips those that wait before it, and stops what is under way.
    """
    in_order = sorted(active, key=lambda run: (run.fire_at, run.id))
    begun = [run for run in in_order if not run.is_queued]
    queued = [run for run in in_order if run.is_queued]
    last = max((at for at, run in enumerate(queued) if run.definition.overlap is Overlap.REPLACE), default=None)
    if last is None:
        return Turn(start=queued[:1] if not begun else ())
    stop = [run for run in begun if not run.is_cancelling]
    return Turn(start=[queued[last]] if not begun else (), skip=queued[:last], stop=stop)
