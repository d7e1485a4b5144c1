"""What a null executor saw: when each fire arrived, and which of its outcomes the admin has accepted."""

import time
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from protos.executor.v1 import link_pb2 as pb

HANDLER = "nothing"
SLOTS = 20_000
FIELDS = 4  # of an arrival: number of the job, fire time in ms, arrival in us, acceptance of its outcome in us or 0
_ACCEPTED = pb.VERDICT_ACCEPTED

Key = tuple[str, int, int]


class Ledger:
    """Kept in memory until `save`; an outcome waits here until it is answered."""

    def __init__(self) -> None:
        self.arrivals = array("q")
        self.waiting: dict[Key, tuple[pb.Outcome, int]] = {}  # with the place of its acceptance among the arrivals
        self.accepted: list[str] = []
        self._superseded = 0
        self._lost = 0

    def take(self, assignments: Iterable[pb.Assignment]) -> list[pb.Outcome]:
        """The outcomes of assignments that arrive now: each has succeeded already."""
        arrived_us = time.time_ns() // 1_000
        now_ms = arrived_us // 1_000
        outcomes = []
        for assignment in assignments:
            attempt = assignment.attempt
            number = int(assignment.job.rpartition("-")[2])
            self.arrivals.extend((number, assignment.fire_at_ms, arrived_us, 0))
            outcome = pb.Outcome(
                attempt=attempt, state=pb.OUTCOME_STATE_SUCCEEDED, started_at_ms=now_ms, ended_at_ms=now_ms
            )
            self.waiting[_key(attempt)] = outcome, len(self.arrivals) - 1
            outcomes.append(outcome)
        return outcomes

    def settle(self, answers: Iterable[pb.ReportAnswer]) -> None:
        now_us = time.time_ns() // 1_000
        for answer in answers:
            _, place = self.waiting.pop(_key(answer.attempt), (None, None))
            if place is not None and answer.verdict == _ACCEPTED:
                self.arrivals[place] = now_us
                self.accepted.append(answer.attempt.run_id)
            elif answer.verdict != _ACCEPTED:
                self._superseded += 1

    def lose(self, attempts: Sequence[pb.Attempt]) -> None:
        """Only counted: the answer to the report says what became of each."""
        self._lost += len(attempts)

    def held(self) -> list[pb.Attempt]:
        return [outcome.attempt for outcome, _ in self.waiting.values()]

    def unanswered(self) -> list[pb.Outcome]:
        return [outcome for outcome, _ in self.waiting.values()]

    def counts(self) -> Mapping[str, float]:
        return {
            "arrived": len(self.arrivals) // FIELDS,
            "accepted": len(self.accepted),
            "superseded": self._superseded,
            "lost": self._lost,
            "waiting": len(self.waiting),
        }

    def lateness(self) -> Mapping[str, float]:
        """Milliseconds behind the fire time."""
        arrivals = self.arrivals
        late = sorted(
            arrived / 1_000 - fire for fire, arrived in zip(arrivals[1::FIELDS], arrivals[2::FIELDS], strict=True)
        )
        return {f"p{percent}_ms": late[len(late) * percent // 100] for percent in (50, 99)} if late else {}

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            self.arrivals.tofile(file)
        path.with_suffix(".accepted").write_text("\n".join(self.accepted))


def _key(attempt: pb.Attempt) -> Key:
    return attempt.run_id, attempt.shard, attempt.term
