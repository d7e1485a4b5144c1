"""Runs as a test looks at them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from protos.errors import ShardcastError


class UnexpectedEnd(ShardcastError):
    """Run {run_id} of the job {job} ended as {state}, not as {wanted}{why}"""

    code = "unexpected_end"


@dataclass(frozen=True, slots=True)
class Shard:
    """One slice of a run; the fields are those of REST."""

    index: int
    total: int
    state: str
    attempt: int  # number of tries begun; those that were lost do not count
    term: int  # how often it was assigned
    holder: str  # name of the executor, "" if none
    rows: int
    published: int
    cursor: object
    result: object  # what the handler returned, as JSON says it
    error_code: str
    error_message: str
    traceback: str
    due_at: datetime | None  # of one that waits: not assigned before

    @property
    def error(self) -> str:
        """What went wrong, with its traceback; "" where nothing did."""
        if not self.error_code:
            return ""
        said = f"shard {self.index} of {self.total} {self.state} at attempt {self.attempt}"
        return f"{said}: {self.error_code}: {self.error_message}\n{self.traceback}".rstrip()


@dataclass(frozen=True, slots=True)
class Run:
    """An occurrence of a job as it stood when it was looked at."""

    id: str
    job: str
    state: str  # waiting, running, succeeded, failed, cancelled, skipped
    cause: str
    fire_time: datetime
    ended_at: datetime | None
    params: Mapping[str, object]
    reason: str
    shards: Sequence[Shard]

    @property
    def results(self) -> Sequence[object]:
        """What the handlers returned, by shard."""
        return [shard.result for shard in self.shards]

    @property
    def errors(self) -> str:
        """What went wrong in its shards; "" where nothing did."""
        return "\n".join(shard.error for shard in self.shards if shard.error)

    def check(self, wanted: str | None) -> None:
        """Raises UnexpectedEnd unless it is in the wanted state; None: any."""
        if wanted not in (None, self.state):
            why = "\n".join(filter(None, (f": {self.reason}" if self.reason else "", self.errors)))
            raise UnexpectedEnd(run_id=self.id, job=self.job, state=self.state, wanted=wanted, why=why or ".")


_RUN: TypeAdapter[Run] = TypeAdapter(Run)


def run_of(body: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]) -> Run:
    """From what REST says of it and of its shards."""
    return _RUN.validate_python({**body, "shards": list(shards)})
