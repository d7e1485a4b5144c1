"""Connected executors: what each can take and holds, and the messages on their way to it."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from admin.dispatch.convert import assign_message, cancel_message, lost_message
from admin.domain.names import Attempt, ExecutorId, HandlerName
from admin.domain.routing import Assignment
from admin.ports import Executor
from protos.errors import PermissionDenied
from protos.executor.v1 import link_pb2 as pb


class Session:
    """One link. What is told to a session that has ended is dropped; its leases run out."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._held: dict[Attempt, HandlerName] = {}
        self._named: frozenset[Attempt] = frozenset()  # by the last beat
        self._resting: dict[HandlerName, datetime] = {}  # not offered before a beat that comes later
        self._outgoing: asyncio.Queue[pb.ConnectResponse | Exception | None] = asyncio.Queue()

    @property
    def executor(self) -> Executor:
        return replace(self._executor, used=len(self._held), left=self._left())

    def tell(self, message: pb.ConnectResponse) -> None:
        self._outgoing.put_nowait(message)

    def holds(self, attempt: Attempt) -> bool:
        return attempt in self._held

    def hold(self, attempts: Mapping[Attempt, HandlerName]) -> None:
        self._held.update(attempts)

    def free(self, attempts: Iterable[Attempt]) -> bool:
        """Whether there is a slot now where there was none before, for all handlers or for one with a limit."""
        was_full = len(self._held) >= self._executor.slots
        full = {handler for handler, count in self._left().items() if count <= 0}
        freed = [self._held.pop(attempt) for attempt in set(attempts) & self._held.keys()]
        if freed:
            self._resting.clear()
        return bool(freed) and (was_full or not full.isdisjoint(freed))

    def refuse(self, attempt: Attempt, rests_until: datetime) -> None:
        """It has no room for the attempt's handler, whatever is counted here: handlers that it has left behind take
        slots too. Others may have room, and the one with the fewest attempts would be asked again and again.
        """
        handler = self._held.get(attempt)
        self.free([attempt])
        if handler is not None:
            self._resting[handler] = rests_until

    def _left(self) -> Mapping[HandlerName, int]:
        limits = self._executor.limits
        resting = [handler for handler, until in self._resting.items() if until > self._executor.seen_at]
        if not limits and not resting:
            return limits
        held = Counter(self._held.values())
        left = {handler: limit - held[handler] for handler, limit in limits.items()}
        return {**left, **dict.fromkeys(resting, 0)}

    def name(self, attempts: Collection[Attempt]) -> bool:
        """What a beat named once and does not any more has ended without a report: its slot is free."""
        gone = (self._named - frozenset(attempts)) & self._held.keys()
        self._named = frozenset(attempts)
        return self.free(gone)

    def see(self, now: datetime) -> None:
        self._executor = replace(self._executor, seen_at=now)

    def shift(self, by: timedelta) -> None:
        """The clock was set: it has been silent for as long as before."""
        self.see(self._executor.seen_at + by)
        self._resting = {handler: until + by for handler, until in self._resting.items()}

    def drain(self, is_draining: bool) -> None:
        self._executor = replace(self._executor, is_draining=is_draining)

    def end(self, error: Exception | None = None) -> None:
        self._outgoing.put_nowait(error)

    async def messages(self) -> AsyncIterator[pb.ConnectResponse]:
        """In order, until the session ends; raises the error that ended it."""
        while (message := await self._outgoing.get()) is not None:
            if isinstance(message, Exception):
                raise message
            yield message


class Sessions:
    """Implements FleetStore and Dispatch over the links that are open."""

    def __init__(self) -> None:
        self._by_id: dict[ExecutorId, Session] = {}

    def open(self, session: Session) -> None:
        """A link that comes back takes the place of the one it had. Raises PermissionDenied for another group's id."""
        if (old := self._by_id.get(session.executor.id)) is not None:
            if old.executor.group != session.executor.group:
                raise PermissionDenied(reason="this executor_id belongs to another group")
            old.end()
        self._by_id[session.executor.id] = session

    def close(self, session: Session) -> None:
        if self._by_id.get(session.executor.id) is session:
            del self._by_id[session.executor.id]
        session.end()

    def end(self) -> None:
        """Ends every link, for a drain."""
        for session in list(self._by_id.values()):
            self.close(session)

    def shift(self, by: timedelta) -> None:
        """The clock by which sessions are seen was set."""
        for session in self._by_id.values():
            session.shift(by)

    def list(self) -> Sequence[Executor]:
        found = (session.executor for session in self._by_id.values())
        return sorted(found, key=lambda executor: (executor.group, executor.name, executor.id))

    def assign(self, assignments: Sequence[Assignment]) -> Sequence[Assignment]:
        by_holder: defaultdict[ExecutorId | None, list[Assignment]] = defaultdict(list)
        for assignment in assignments:
            by_holder[assignment.shard.holder].append(assignment)
        untold: list[Assignment] = []
        for holder, items in by_holder.items():
            session = self._by_id.get(holder) if holder is not None else None
            if session is None:
                untold += items
                continue
            session.hold({item.shard.current: item.run.handler for item in items})
            session.tell(assign_message(items))
        return untold

    def cancel(self, holder: ExecutorId, attempts: Sequence[Attempt], reason: str) -> None:
        if (session := self._by_id.get(holder)) is not None:
            for attempt in attempts:
                session.tell(cancel_message(attempt, reason))

    def release(self, holder: ExecutorId, attempts: Sequence[Attempt]) -> None:
        if (session := self._by_id.get(holder)) is not None:
            session.free(attempts)
            for attempt in attempts:
                session.tell(lost_message(attempt))
