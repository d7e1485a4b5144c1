"""Runs attempts side by side in a bounded number of slots, and knows which of them are held."""

import asyncio
import enum
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable

import structlog

from executor.model import Assignment, AttemptKey, Counters, Outcome
from executor.probe.tally import Tally
from executor.running.attempt import Attempt, World
from executor.running.cancellation import Why
from executor.running.runlog import EndedLogs, LogBatch

MAX_STARTED = 4_096  # remembered; the terms of older ones have long been fenced

log = structlog.get_logger(__name__)


class Refusal(enum.StrEnum):
    """Why an assignment is not taken."""

    NO_FREE_SLOT = enum.auto()
    UNKNOWN_HANDLER = enum.auto()
    DRAINING = enum.auto()
    STARTED_BEFORE = enum.auto()


class Runner:
    """The attempts of this process. Belongs to the daemon's loop."""

    def __init__(self, world: World, slots: int, deliver: Callable[[Outcome], Awaitable[None]]) -> None:
        self.slots = slots
        self.tally = Tally()
        self._world = world
        self._deliver = deliver
        self._attempts: dict[AttemptKey, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._started: deque[AttemptKey] = deque(maxlen=MAX_STARTED)  # an assignment is started at most once
        self._left: dict[asyncio.Future[object], str] = {}  # handlers that go on although their attempt has ended
        self._ended_logs = EndedLogs()
        self._draining: asyncio.Task[None] | None = None
        self._told: dict[AttemptKey, Counters] = {}

    def start(self, assignment: Assignment, lease_until: float) -> Refusal | None:
        """Starts an attempt; None also where it runs already."""
        key = assignment.key
        if key in self._attempts:
            return None
        refusal = self._refusal(assignment)
        if refusal is not None:
            return refusal
        self._started.append(key)
        attempt = self._attempts[key] = Attempt(self._world, assignment, lease_until)
        task = asyncio.create_task(self._run(attempt), name=str(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    @property
    def held(self) -> list[AttemptKey]:
        """The attempts whose leases are to be extended."""
        return [key for key, attempt in self._attempts.items() if attempt.cancellation.why is not Why.LOST]

    @property
    def in_progress(self) -> int:
        return len(self._attempts)

    @property
    def gained(self) -> tuple[int, int]:
        """Rows handed out and messages acknowledged since the start of this process."""
        gains = [(self.tally.rows, self.tally.published), *(each.gained for each in self._attempts.values())]
        return sum(rows for rows, _ in gains), sum(published for _, published in gains)

    def extend(self, keys: Iterable[AttemptKey], until: float) -> None:
        """Their leases last until then, by the monotonic clock."""
        for key in keys:
            if key in self._attempts:
                self._attempts[key].cancellation.extend(until)

    def cancel(self, key: AttemptKey, reason: str) -> None:
        """The attempt stops and says so."""
        self._order(key, Why.CANCELLED, reason)

    def lose(self, key: AttemptKey) -> None:
        """The attempt stops; what it found is discarded."""
        self._order(key, Why.LOST, "its lease was lost")

    def lapse(self) -> None:
        """Stops attempts whose lease has run out: another executor may have the shard by now."""
        for key, attempt in self._attempts.items():
            if attempt.cancellation.has_lapsed and attempt.cancellation.why is not Why.LOST:
                log.warning("lease lapsed", action="lease_lapsed", attempt=str(key))
                attempt.cancellation.request(Why.LOST, "its lease lapsed")

    def drain(self, grace: float, limit: float) -> asyncio.Task[None]:
        """Takes nothing new; the task ends when nothing runs.

        After `grace` seconds attempts stop at their next batch and are handed back; after `limit` what still runs is
        left without a report.
        """
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(grace, limit))
        return self._draining

    @property
    def is_draining(self) -> bool:
        return self._draining is not None

    def take_progress(self) -> list[tuple[AttemptKey, Counters]]:
        """The counters that changed since the last call."""
        now = {key: attempt.counters for key, attempt in self._attempts.items()}
        changed = [(key, counters) for key, counters in now.items() if self._told.get(key, Counters()) != counters]
        self._told = now
        return changed

    def take_log_lines(self, besides: Collection[AttemptKey]) -> list[LogBatch]:
        """What attempts logged since the last call, also those that have ended since, but not these of them."""
        logs = (*self._ended_logs.pop_all(besides), *(attempt.log for attempt in self._attempts.values()))
        return self._noted([batch for batch in (each.take() for each in logs) if batch is not None])

    def take_log_lines_of(self, key: AttemptKey) -> LogBatch | None:
        """What one attempt logged since, also if it has ended."""
        attempt = self._attempts.get(key)
        log = attempt.log if attempt is not None else self._ended_logs.pop(key)
        batch = log.take() if log is not None else None
        return None if batch is None else self._noted([batch])[0]

    async def _run(self, attempt: Attempt) -> None:
        key = attempt.assignment.key
        try:
            outcome = await self._counted(attempt)
            if outcome is not None:
                await self._deliver(outcome)
        except Exception:  # nothing is reported: the lease runs out, and the shard goes to another holder
            log.exception("attempt broke", action="attempt_broke", attempt=str(key))
        finally:
            del self._attempts[key]
            self.tally.add_gain(*attempt.gained)
            self._ended_logs.add(attempt.log)
            if attempt.body is not None and not attempt.body.done():
                self._left[attempt.body] = attempt.assignment.handler
                attempt.body.add_done_callback(self._left.pop)

    async def _counted(self, attempt: Attempt) -> Outcome | None:
        began, outcome = self._world.monotonic(), None
        try:
            outcome = await attempt.run()
        finally:
            state = None if outcome is None else outcome.state
            self.tally.add_attempt(attempt.assignment.handler, state, self._world.monotonic() - began)
        return outcome

    def _noted(self, batches: list[LogBatch]) -> list[LogBatch]:
        self.tally.log_lines_dropped += sum(batch.dropped for batch in batches)
        return batches

    def _refusal(self, assignment: Assignment) -> Refusal | None:
        if self.is_draining:
            return Refusal.DRAINING
        if assignment.key in self._started:
            return Refusal.STARTED_BEFORE
        handler = self._world.registry.handlers.get(assignment.handler)
        if handler is None:
            return Refusal.UNKNOWN_HANDLER
        running = [*(attempt.assignment.handler for attempt in self._attempts.values()), *self._left.values()]
        limit = handler.manner.slots
        if len(running) >= self.slots or (limit is not None and running.count(handler.name) >= limit):
            return Refusal.NO_FREE_SLOT
        return None

    def _order(self, key: AttemptKey, why: Why, reason: str) -> None:
        if key in self._attempts:
            self._attempts[key].cancellation.request(why, reason)

    async def leave(self) -> None:
        """Ends what runs here without a report, coroutines at once; threads are left to find out by themselves."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for body in list(self._left):
            body.cancel()

    async def _drain(self, grace: float, limit: float) -> None:
        await self._wait(min(grace, limit))
        for key in self.held:
            self._order(key, Why.RELEASED, "the executor drains")
        await self._wait(max(limit - grace, 0))
        for task in self._tasks:
            log.warning("attempt left", action="attempt_left", attempt=task.get_name())
        await self.leave()

    async def _wait(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
