"""What executors say about the attempts they hold: beats, refusals, progress, pins, reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from admin.domain.errors import Unstorable
from admin.domain.names import Attempt, ExecutorId, Group, HandlerName
from admin.domain.run import Outcome, OutcomeState, Verdict, on_beat, on_outcome, on_refusal, verdict
from admin.domain.shard import HELD, Counters, Fault, Shard
from admin.operations.runs import ring_for
from admin.ports import Change, Changed, Decide, Executor, RunStore, Wakeup

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Beat:
    """What came of a beat: attempts that are lost, and those that somebody asked to stop."""

    lost: Sequence[Attempt]
    cancelled: Sequence[Attempt]
    handlers: Mapping[Attempt, HandlerName] = field(default_factory=dict)  # of those that are not lost


@dataclass(frozen=True, slots=True)
class Attempts:
    """The admin's end of the links."""

    runs: RunStore
    wakeup: Wakeup
    lease: timedelta

    async def beat(self, executor: Executor, held: Sequence[Attempt]) -> Beat:
        """Extends the leases of attempts that this executor holds; those just reported are not called lost."""
        if not held:
            return Beat((), ())
        changed = await self._change([Change(attempt.shard, self._beaten(executor, attempt)) for attempt in held])
        kept: dict[Attempt, HandlerName] = {}
        cancelled: set[Attempt] = set()
        for attempt, found in zip(held, changed.before, strict=True):
            if found is not None and found[1].group == executor.group and _is_fine(found[0], executor.id, attempt):
                kept[attempt] = found[1].handler
                if found[1].is_cancelling:
                    cancelled.add(attempt)
        return Beat([attempt for attempt in held if attempt not in kept], sorted(cancelled), kept)

    def _beaten(self, executor: Executor, attempt: Attempt) -> Decide:
        holder, lease = executor.id, self.lease
        return lambda shard, _, now: on_beat(shard, holder, attempt, lease, now)

    async def refuse(self, executor: Executor, attempt: Attempt) -> None:
        """The shard waits for another executor; no attempt is counted."""
        refused: Decide = lambda shard, run, now: on_refusal(shard, executor.id, attempt, run, now)  # noqa: E731
        await self._change([Change(attempt.shard, refused)])

    async def report(self, executor: Executor, outcomes: Sequence[Outcome]) -> Mapping[Attempt, Verdict]:
        """Applies outcomes; when it returns they are durable. Who reports need not be who held the shard: it may be
        the process that took over an outbox. What cannot be kept is kept as a failure, and costs the others nothing.
        """
        try:
            return await self._report(executor, outcomes)
        except Unstorable as error:
            if len(outcomes) == 1:
                log.warning("outcome unfit", action="outcome_unfit", attempt=outcomes[0].attempt, error=str(error))
                return await self._report(executor, [_failure(outcomes[0], error)])
        verdicts: dict[Attempt, Verdict] = {}
        for outcome in outcomes:
            verdicts |= await self.report(executor, [outcome])
        return verdicts

    async def _report(self, executor: Executor, outcomes: Sequence[Outcome]) -> Mapping[Attempt, Verdict]:
        group = executor.group
        changed = await self._change([Change(outcome.attempt.shard, _reported(group, outcome)) for outcome in outcomes])
        if any(outcome.state not in _DONE for outcome in outcomes):
            self.wakeup.ring("dispatcher")
        verdicts: dict[Attempt, Verdict] = {}
        for outcome, found in zip(outcomes, changed.before, strict=True):
            attempt = outcome.attempt
            is_known = found is not None and found[1].group == group
            verdicts[attempt] = verdict(found[0], attempt) if found and is_known else Verdict.SUPERSEDED
        return verdicts

    async def progress(self, executor: Executor, progress: Mapping[Attempt, Counters]) -> None:
        await self.runs.add_progress(executor.id, progress)

    async def pin(self, executor: Executor, attempt: Attempt, name: str, value: str) -> str | None:
        """The value that is kept, None if the attempt is not held any more."""
        return await self.runs.add_pin(attempt, executor.id, name, value)

    async def _change(self, changes: Sequence[Change]) -> Changed:
        changed = await self.runs.finish(changes)
        ring_for(self.wakeup, changed.runs)
        return changed


_DONE = (OutcomeState.SUCCEEDED, OutcomeState.SKIPPED)
"""Outcomes that leave nothing to be assigned again."""


def _failure(outcome: Outcome, error: Unstorable) -> Outcome:
    """In place of one that cannot be kept."""
    return Outcome(outcome.attempt, OutcomeState.FAILED, Counters(), fault=Fault(error.code, str(error)[:1_000]))


def _reported(group: Group, outcome: Outcome) -> Decide:
    """Nobody speaks for the runs of another group: a token lets in to one."""
    return lambda shard, run, now: on_outcome(shard, outcome, run, now) if run.group == group else None


def _is_fine(shard: Shard, holder: ExecutorId, attempt: Attempt) -> bool:
    is_held = shard.state in HELD and shard.current == attempt and shard.holder == holder
    return is_held or shard.reported_term == attempt.term
