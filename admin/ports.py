"""What the admin's middle needs from its edges: narrow protocols, declared by their user."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from admin.domain.job import Job, JobDefinition
from admin.domain.logs import LogChunk, LoggedLine, Position
from admin.domain.names import AdminId, Attempt, ExecutorId, Group, HandlerName, JobName, RunId, ShardKey, TokenId
from admin.domain.overlap import Active
from admin.domain.plan import Planned
from admin.domain.routing import Assignment, Choice, Room, Waiting
from admin.domain.run import Cause, Run, RunState
from admin.domain.shard import Counters, Event, Shard
from broker.client.message import ReceivedMessage
from broker.client.operating.broker import BrokerState
from broker.client.operating.dead_letters import DeadLetters, Resent
from broker.client.operating.groups import GroupState, Reset, ResetTarget
from broker.client.operating.topics import TopicState
from broker.model import GroupPolicy, TopicPolicy

Clock = Callable[[], datetime]
"""Aware, UTC."""

First = Callable[[datetime], datetime | None]
"""now -> the fire time that a new job begins with."""

Edit = Callable[[Job, datetime, bool], Job]
"""(job, now, whether the run of its last fire, one with a fixed delay, has not ended) -> what is to be kept as its next
version; plain, called inside the transaction.
"""

Plan = Callable[[Job, datetime, Active], Planned]
"""(job, now, its active runs) -> what to do; plain, called inside the transaction."""

Make = Callable[[Job, datetime, Active], Run]
"""(job, now, its active runs) -> the run that is wanted of it; plain, called inside the transaction."""

Decide = Callable[[Shard, Run, datetime], Event | None]
"""What happens to a shard now, None for nothing; plain, called inside the transaction, and again where that has to be
begun anew.
"""

Choose = Callable[[Sequence[Waiting]], Sequence[Choice]]
"""Who gets which shard; plain, called inside the transaction."""


class Change(NamedTuple):
    """A shard, and what decides its next step."""

    key: ShardKey
    decide: Decide


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of changes."""

    before: Sequence[tuple[Shard, Run] | None]  # by change: as they were before it; None: unknown
    runs: Sequence[Run]  # those that moved, as they are now
    steps: Sequence[bool]  # by change: whether it did something


@dataclass(frozen=True, slots=True)
class Due:
    """What a claim of due jobs led to."""

    jobs: int
    runs: Sequence[Run]
    assignments: Sequence[Assignment]  # shards of these runs that were leased at once
    wait: timedelta | None  # until the next job is due


@dataclass(frozen=True, slots=True)
class Turned:
    """What became of runs that waited for older ones of their jobs."""

    started: Sequence[Run] = ()
    ended: Sequence[Run] = ()
    stop: Sequence[Run] = ()  # to be cancelled, as a later run replaces them


@dataclass(frozen=True, slots=True)
class Offer:
    """What the executors of a group can take now."""

    handlers: Collection[HandlerName]
    slots: int


@dataclass(frozen=True, slots=True)
class Takers:
    """Who can take shards now, for how long, and who takes which."""

    lease: timedelta
    offers: Mapping[Group, Offer]
    choose: Choose


class JobStore(Protocol):
    """Keeps jobs. The store's clock says what "now" is."""

    async def add(self, definition: JobDefinition, first: First) -> Job:
        """Raises JobExists."""

    async def add_version(self, name: JobName, edit: Edit, expected: int | None) -> Job:
        """Keeps what `edit` makes of the job as its next version. Raises UnknownJob, VersionConflict."""

    async def get(self, name: JobName) -> Job:
        """Raises UnknownJob."""

    async def list(self, *, group: Group | None, after: JobName | None, limit: int) -> Sequence[Job]:
        """By name, those behind `after`."""

    async def cancel(self, name: JobName, expected: int | None) -> None:
        """Forgets the job; its runs stay. Raises UnknownJob, VersionConflict, JobActive."""


class RunStore(Protocol):
    """Keeps runs, their shards and pins: those that have not ended, and the history of the others. Each method is one
    transaction, durable when it returns. The store's clock says what "now" is: on PostgreSQL and MariaDB the server's,
    so that all admins agree.
    """

    async def add(self, job: JobName, cause: Cause, key: str, make: Make) -> Run:
        """Writes down what `make` makes, or gives the run that has this cause and key already.

        Raises UnknownJob, and what `make` raises.
        """

    async def claim_due(self, limit: int, plan: Plan, takers: Takers | None) -> Due:
        """Writes down the runs that `plan` makes of due jobs and moves their fire times; leases the new runs' shards to
        takers that have room. Jobs that another admin holds are left to it.
        """

    async def claim_queued(self, limit: int) -> Turned:
        """Gives runs that wait for older ones of their jobs their turn, as `overlap.turn` says."""

    async def claim_waiting(self, takers: Takers) -> Sequence[Assignment]:
        """Leases waiting shards that are due."""

    async def claim_lapsed(self, limit: int, decide: Decide) -> Changed:
        """Changes shards whose lease has lapsed."""

    async def finish(self, changes: Sequence[Change]) -> Changed:
        """Changes shards one after the other, and their runs as they follow. A run that ends becomes history, and with
        a fixed delay its job gets the next fire time.
        """

    async def extend(self, lease: timedelta) -> int:
        """Lets every lease end one lease from now: nobody could hear the beats, or the clock was set."""

    async def cancel(self, run_id: RunId, decide: Decide, reason: str) -> tuple[Run, Sequence[Shard]]:
        """Marks the run as to be stopped; gives it with the shards still held. Raises UnknownRun, RunEnded."""

    async def add_attempts(self, run_id: RunId) -> Run:
        """Reopens the failed and lost shards. Raises UnknownRun, NothingToRetry."""

    async def add_progress(self, holder: ExecutorId, progress: Mapping[Attempt, Counters]) -> None:
        """Keeps counters of attempts that are current and held by this executor."""

    async def add_pin(self, attempt: Attempt, holder: ExecutorId, name: str, value: str) -> str | None:
        """The value that the run has under this name, the first one given; None if the attempt is not current."""

    async def get(self, run_id: RunId) -> Run:
        """Raises UnknownRun."""

    async def list(
        self, *, job: JobName | None, state: RunState | None, before: RunId | None, limit: int
    ) -> Sequence[Run]:
        """Newest first, those older than `before`."""

    async def list_shards(self, run_id: RunId) -> Sequence[Shard]:
        """By index. Raises UnknownRun."""

    async def get_tally(self) -> Mapping[RunState, int]:
        """How many runs that have not ended are in which state."""

    async def prune(self, keep: timedelta, most: int, limit: int) -> Sequence[RunId]:
        """Forgets the oldest runs of the history, at most `limit`: those that ended longer ago than `keep`, and those
        beyond the `most` newest. They are looked for before the transaction that forgets those which are still there.
        """


class RunLogs(Protocol):
    """Keeps what handlers logged. Each method is one transaction, or a few small ones that can be repeated."""

    async def add(self, chunks: Sequence[LogChunk], now: datetime, run_bytes: int) -> Collection[RunId]:
        """Stores chunks behind those of their runs, all or none; the runs that have reached `run_bytes`, of whose
        further chunks only it is kept how much was dropped."""

    async def list(self, run_id: RunId, *, after: Position, shard: int | None, limit: int) -> Sequence[LoggedLine]:
        """In the order in which they were stored, those behind `after`; none of a run that is unknown."""

    async def prune(self, before: datetime, keep_bytes: int, limit: int) -> int:
        """Forgets the logs of runs that got no line since, then the longest untouched ones until the rest takes at
        most `keep_bytes`; at most `limit` chunks a call, whose number it gives."""

    async def cancel(self, run_ids: Collection[RunId], limit: int) -> int:
        """Forgets the logs of these runs; at most `limit` chunks a call, whose number it gives."""


@dataclass(frozen=True, slots=True)
class Executor:
    """A connected executor."""

    id: ExecutorId
    name: str
    group: Group
    handlers: frozenset[HandlerName]
    slots: int
    used: int
    is_draining: bool
    version: str
    connected_at: datetime
    seen_at: datetime  # its last beat, no other message
    schemas: Mapping[HandlerName, str] = field(default_factory=dict, hash=False)
    """JSON schemas of parameters, as text, of those handlers that said one."""
    limits: Mapping[HandlerName, int] = field(default_factory=dict, hash=False)
    """Slots of those handlers that have a limit of their own."""
    left: Mapping[HandlerName, int] = field(default_factory=dict, hash=False)
    """How many of these are free; known where it is linked."""

    def is_alive(self, now: datetime, lease: timedelta) -> bool:
        """A link may outlive its executor for a while (a stopped process, a cut cable); a sign of life does not."""
        return now - self.seen_at <= lease

    @property
    def room(self) -> Room:
        full = {handler for handler, count in self.left.items() if count <= 0}
        return Room(self.id, self.name, self.group, self.handlers - full, self.slots, self.used, self.left)


class FleetStore(Protocol):
    """Knows who is connected."""

    def list(self) -> Sequence[Executor]:
        """By group and name."""


@dataclass(frozen=True, slots=True)
class Others:
    """The admins that are awake beside this one, and the executors that are linked to them."""

    admins: Sequence[AdminId] = ()
    executors: Sequence[Executor] = ()


class FleetBook(Protocol):
    """Where admins tell each other who is linked to them."""

    async def extend(self, admin: AdminId, linked: Sequence[Executor], now: datetime, lease: timedelta) -> Others:
        """Says that this admin is awake and who is linked to it; gives the others that were within a lease. `now` is
        the time by the clock that the executors were seen by.
        """

    async def release(self, admin: AdminId) -> None:
        """The admin leaves."""


class Dispatch(Protocol):
    """Tells executors what to do; what cannot be told is left to the leases."""

    def assign(self, assignments: Sequence[Assignment]) -> Sequence[Assignment]:
        """Gives back those whose holder has no link here any more."""

    def cancel(self, holder: ExecutorId, attempts: Sequence[Attempt], reason: str) -> None: ...

    def release(self, holder: ExecutorId, attempts: Sequence[Attempt]) -> None:
        """The leases were lost."""


class Wakeup(Protocol):
    """Wakes who waits for a bell, so that nothing waits for the next period."""

    def ring(self, bell: str) -> None: ...

    def listen(self, bell: str) -> AbstractContextManager["Bell"]:
        """Rings while the context is open are not missed."""


class Bell(Protocol):
    """One listener's end of a bell."""

    async def wait(self, seconds: float) -> bool:
        """Until it rang since the last wait (True), or the time is over (False)."""


@dataclass(frozen=True, slots=True)
class Token:
    """Who may do what: all of the REST and gRPC interfaces, or join a group of executors ("*": any)."""

    id: TokenId
    name: str
    group: Group | None  # None: an administrator's
    created_at: datetime


class TokenStore(Protocol):
    """Keeps digests of tokens, never tokens."""

    async def add(self, digests: Mapping[str, Token]) -> None: ...

    async def add_first(self, make: Callable[[], Mapping[str, Token]]) -> bool:
        """Adds what `make` makes if there is no token at all: of all who ask, one alone makes some. Whether this was
        it. `make` is called before what it makes is valid, and again where the transaction has to be begun anew.
        """

    async def get(self, digest: str) -> Token | None: ...

    async def list(self) -> Sequence[Token]: ...

    async def cancel(self, token_id: TokenId) -> None:
        """Raises UnknownToken."""


class Topics(Protocol):
    """The broker's topics. Everything may raise what the broker refuses with, and BrokerAway."""

    async def broker(self) -> BrokerState:
        """All of the broker: bytes, segments and what holds the oldest one, fsync times."""

    async def list(self) -> Sequence[TopicState]: ...

    async def get(self, name: str) -> TopicState: ...

    async def create(self, name: str, queues: int, policy: TopicPolicy | None) -> TopicState: ...

    async def alter(
        self, name: str, *, write_queues: int, read_queues: int, policy: TopicPolicy | None
    ) -> TopicState: ...

    async def delete(self, name: str) -> None: ...

    async def read(self, name: str, queue: int, offset: int, limit: int) -> Sequence[ReceivedMessage]:
        """Messages of one queue from an offset on, for nobody: no group moves."""

    async def find(self, name: str, key: str, limit: int) -> Sequence[ReceivedMessage]:
        """The latest first."""

    async def find_offsets(self, name: str, at: datetime) -> Sequence[int]:
        """By queue: of the first message stored then or later."""


class Groups(Protocol):
    """The broker's consumer groups. Everything may raise what the broker refuses with, and BrokerAway."""

    async def list(self) -> Sequence[str]:
        """Their names."""

    async def get(self, name: str) -> GroupState: ...

    async def alter(self, name: str, policy: GroupPolicy) -> GroupPolicy: ...

    async def delete(self, name: str) -> None: ...

    async def preview_reset(self, name: str, topic: str, to: ResetTarget) -> Reset: ...

    async def reset(
        self, name: str, topic: str, to: ResetTarget, *, expected: Sequence[int] | None, force: bool
    ) -> Reset: ...

    async def dead_letters(self, name: str, offset: int, limit: int) -> DeadLetters:
        """From an offset on, the oldest first."""

    async def resend(
        self, name: str, offsets: Sequence[int], *, first: int, before: int, limit: int, rate: float
    ) -> Resent:
        """Those named, else all from `first` up to `before` (0: the end as it is now), at most `limit` of them."""

    async def purge(self, name: str, offsets: Sequence[int]) -> int:
        """Those named, else all; how many there were."""
