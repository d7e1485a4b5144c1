"""What executors say about the attempts they hold: beats, refusals, progress, pins, reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from admin.domain.names import Attempt, ExecutorId
from admin.domain.run import Outcome, Run, Verdict, on_beat, on_outcome, on_refusal, verdict
from admin.domain.shard import HELD, Counters, Event, Shard
from admin.operations.runs import bell_of
from admin.ports import Change, Clock, Decide, Executor, RunStore, Wakeup


@dataclass(frozen=True, slots=True)
class Beat:
    """What came of a beat: attempts that are lost, and those that somebody asked to stop."""

    lost: Sequence[Attempt]
    cancelled: Sequence[Attempt]


@dataclass(frozen=True, slots=True)
class Attempts:
    """The admin's end of the links."""

    runs: RunStore
    wakeup: Wakeup
    clock: Clock
    lease: timedelta

    async def beat(self, executor: Executor, held: Sequence[Attempt]) -> Beat:
        """Extends the leases of attempts that this executor holds; those just reported are not called lost."""
        if not held:
            return Beat((), ())
        now = self.clock()
        until_at = now + self.lease
        kept: set[Attempt] = set()
        cancelled: set[Attempt] = set()

        def decide(attempt: Attempt) -> Decide:
            def beaten(shard: Shard, run: Run) -> Event | None:
                if _is_fine(shard, executor.id, attempt):
                    kept.add(attempt)
                    if run.is_cancelling:
                        cancelled.add(attempt)
                return on_beat(shard, executor.id, attempt, until_at, now)

            return beaten

        await self._change(executor, [(attempt, decide(attempt)) for attempt in held], now)
        return Beat([attempt for attempt in held if attempt not in kept], sorted(cancelled))

    async def refuse(self, executor: Executor, attempt: Attempt) -> None:
        """The shard waits for another executor; no attempt is counted."""
        now = self.clock()
        refused: Decide = lambda shard, run: on_refusal(shard, executor.id, attempt, run, now)  # noqa: E731
        await self._change(executor, [(attempt, refused)], now)

    async def report(self, executor: Executor, outcomes: Sequence[Outcome]) -> Mapping[Attempt, Verdict]:
        """Applies outcomes; when it returns they are durable. Who reports need not be who held the shard: it may be
        the process that took over an outbox.
        """
        now = self.clock()
        verdicts = {outcome.attempt: Verdict.SUPERSEDED for outcome in outcomes}

        def decide(outcome: Outcome) -> Decide:
            def reported(shard: Shard, run: Run) -> Event | None:
                verdicts[outcome.attempt] = verdict(shard, outcome.attempt)
                return on_outcome(shard, outcome, run, now)

            return reported

        await self._change(executor, [(outcome.attempt, decide(outcome)) for outcome in outcomes], now)
        self.wakeup.ring("dispatcher")
        return verdicts

    async def progress(self, executor: Executor, progress: Mapping[Attempt, Counters]) -> None:
        await self.runs.add_progress(executor.id, progress)

    async def pin(self, executor: Executor, attempt: Attempt, name: str, value: str) -> str | None:
        """The value that is kept, None if the attempt is not held any more."""
        return await self.runs.add_pin(attempt, executor.id, name, value)

    async def _change(self, executor: Executor, decisions: Sequence[tuple[Attempt, Decide]], now: datetime) -> None:
        changes = [Change(attempt.shard, _of_its_group(executor, decide)) for attempt, decide in decisions]
        changed = await self.runs.finish(changes, now)
        for run in changed.runs:
            self.wakeup.ring(bell_of(run.id))


def _of_its_group(executor: Executor, decide: Decide) -> Decide:
    """Nobody speaks for the runs of another group: a token lets in to one."""
    return lambda shard, run: decide(shard, run) if run.group == executor.group else None


def _is_fine(shard: Shard, holder: ExecutorId, attempt: Attempt) -> bool:
    is_held = shard.state in HELD and shard.current == attempt and shard.holder == holder
    return is_held or shard.reported_term == attempt.term
