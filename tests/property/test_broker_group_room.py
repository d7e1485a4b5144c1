"""A consumer group in the engine: members of both kinds, commits, resets, deletion and crashes against plain dicts."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.delivery.leases.settling import Action, Settlement
from broker.engine.commands import (
    BeatGroup,
    Command,
    CommitOffsets,
    DeleteGroup,
    DropSilent,
    GetGroup,
    JoinByLease,
    LeaveGroup,
    ResetOffsets,
)
from broker.engine.engine import Answer
from broker.engine.leasing.commands import Leased, LeaseMessages, SettleLeases
from broker.errors import BrokerError, GroupActive, ModeConflict, NotOwner, OffsetsMoved, UnknownGroup
from broker.groups.answers import GroupStatus, ResetDone
from broker.groups.resetting import Reset
from broker.model import Beat, BeatAnswer, Claim, Edge, GroupName, GroupPolicy, MemberId, Mode, OffsetCommit, TopicQueue
from tests.support.broker_engine import TOPIC, opening, publishing, running_engine

G = GroupName("g")
MEMBERS = [MemberId("a"), MemberId("b")]
QUEUES = [TopicQueue(TOPIC.name, number) for number in range(2)]
PER_QUEUE = 10
SESSION_SECONDS = 3.0
STARTS = st.sampled_from([Edge.EARLIEST, Edge.LATEST]) | st.tuples(*[st.integers(0, PER_QUEUE)] * 2)


class GroupRoom(RuleBasedStateMachine):
    """The group stands where it was last committed, settled or reset to, whatever it was read by and whoever died."""

    def __init__(self) -> None:
        super().__init__()
        self.house = ExitStack()
        self.path = Path(self.house.enter_context(tempfile.TemporaryDirectory()))
        self.running = self.house.enter_context(ExitStack())
        self.now = 0.0
        self.exists = False
        self.mode: Mode | None = None
        self.alive: dict[MemberId, float] = {}
        self.committed = dict.fromkeys(QUEUES, 0)
        self.void = dict.fromkeys(QUEUES, 0)
        self.claims: dict[MemberId, list[Claim]] = {}
        self.leased: dict[TopicQueue, set[tuple[MemberId, int, int]]] = {at: set() for at in QUEUES}
        self.done: dict[TopicQueue, set[int]] = {at: set() for at in QUEUES}

    @initialize()
    def start(self) -> None:
        self._open()
        self._ask(opening("producer/a", 1, "h"))
        self._ask(publishing("producer/a", 1, "h", 1, *[b"x"] * 2 * PER_QUEUE))

    def _open(self) -> None:
        self.engine, _ = self.running.enter_context(running_engine(self.path, segment=1 << 20))

    def _ask(self, command: Command) -> Answer:
        (answer,) = self.engine.commit([command]).answers
        if isinstance(answer, BrokerError):
            raise answer
        assert not hasattr(answer, "position")
        return answer

    def _living(self) -> list[MemberId]:
        return [member for member, expires in self.alive.items() if expires > self.now]

    def _changes_over(self, mode: Mode) -> bool:
        """Whether the group can be read this way; does what happens to the model when it changes over."""
        if self.mode not in (None, mode) and (self._living() or any(self.leased.values())):
            return False
        if self.mode is not mode:
            self.done = {at: set() for at in QUEUES}
        self.mode, self.exists = mode, True
        return True

    @rule(member=st.sampled_from(MEMBERS))
    def beat(self, member: MemberId) -> None:
        command = BeatGroup(Beat(G, member, frozenset([TOPIC.name]), SESSION_SECONDS), self.now)
        if not self._changes_over(Mode.OFFSET):
            with pytest.raises(ModeConflict):
                self._ask(command)
            return
        answer = self._ask(command)
        assert isinstance(answer, BeatAnswer)
        self.alive[member] = self.now + SESSION_SECONDS
        self.claims[member] = [owned.claim for owned in answer.owned]
        assert all(owned.offset == self.committed[owned.claim.at] for owned in answer.owned)

    @rule(member=st.sampled_from(MEMBERS), most=st.integers(1, 4))
    def lease(self, member: MemberId, most: int) -> None:
        join = JoinByLease(Beat(G, member, frozenset([TOPIC.name]), SESSION_SECONDS), self.now)
        if not self._changes_over(Mode.LEASE):
            with pytest.raises(ModeConflict):
                self._ask(join)
            return
        self._ask(join)
        self.alive[member] = self.now + SESSION_SECONDS
        ends = [PER_QUEUE] * 2
        leased = self._ask(
            LeaseMessages(G, member, TOPIC, most, 60_000, frozenset(), [0, 0], ends, GroupPolicy(), None)
        )
        assert isinstance(leased, Leased)
        for each in leased.entries:
            at, offset = QUEUES[each.queue], each.entry.offset
            assert offset >= self.committed[at]
            assert offset not in self.done[at]
            assert offset not in {known for _, known, _ in self.leased[at]}
            self.leased[at].add((member, offset, each.attempt))

    @precondition(lambda self: any(self.leased.values()))
    @rule(at=st.sampled_from(QUEUES), last=st.booleans())
    def acknowledge(self, at: TopicQueue, last: bool) -> None:
        if self.leased[at]:
            self._acknowledge(at, (max if last else min)(self.leased[at], key=lambda held: held[1]))

    def _acknowledge(self, at: TopicQueue, held: tuple[MemberId, int, int]) -> None:
        member, offset, attempt = held
        settlement = Settlement(at.queue, [offset], [attempt], Action.ACKNOWLEDGE)
        self._ask(SettleLeases(G, member, TOPIC.name, TOPIC.topic_id, [settlement], GroupPolicy(), None, self.now))
        self.leased[at].discard(held)
        self.done[at].add(offset)
        if member in self._living():
            self.alive[member] = self.now + SESSION_SECONDS
        while self.committed[at] in self.done[at]:
            self.committed[at] += 1

    @precondition(lambda self: self.claims)
    @rule(member=st.sampled_from(MEMBERS), at=st.sampled_from(QUEUES), offset=st.integers(0, PER_QUEUE))
    def commit(self, member: MemberId, at: TopicQueue, offset: int) -> None:
        claim = next((claim for claim in self.claims.get(member, ()) if claim.at == at), Claim(at, 0))
        try:
            self._ask(CommitOffsets(G, member, [OffsetCommit(claim, offset)]))
        except UnknownGroup:
            assert not self.exists
        except NotOwner:
            assert claim.generation <= self.void[at] or member not in self._living() or self.mode is Mode.LEASE
        else:
            assert claim.generation > self.void[at]
            self.committed[at] = max(self.committed[at], offset)

    @precondition(lambda self: self.exists)
    @rule(to=STARTS, force=st.booleans(), preview=st.booleans(), expects=st.sampled_from(["right", "wrong", None]))
    def reset(self, to: Edge | tuple[int, ...], force: bool, preview: bool, expects: str | None) -> None:
        before = tuple(self.committed.values())
        expected = {"right": before, "wrong": (before[0] + 1, before[1]), None: None}[expects]
        command = ResetOffsets(Reset(G, TOPIC.name, to, preview, expected, force), self.now)
        if expects == "wrong":
            with pytest.raises(OffsetsMoved):
                self._ask(command)
        elif not preview and not force and (self._living() or any(self.leased.values())):
            with pytest.raises(GroupActive):
                self._ask(command)
        else:
            done = self._ask(command)
            assert isinstance(done, ResetDone)
            edges = {Edge.EARLIEST: (0, 0), Edge.LATEST: (PER_QUEUE,) * 2}
            assert (done.before, done.after) == (before, to if isinstance(to, tuple) else edges[to])
            if not preview:
                self._moved(done.after)

    def _moved(self, offsets: tuple[int, ...]) -> None:
        self.committed = dict(zip(QUEUES, offsets, strict=True))
        self.leased = {at: set() for at in QUEUES}
        self.done = {at: set() for at in QUEUES}
        for claim in (claim for claims in self.claims.values() for claim in claims):
            self.void[claim.at] = max(self.void[claim.at], claim.generation)

    @precondition(lambda self: self.exists)
    @rule(member=st.sampled_from(MEMBERS))
    def leave(self, member: MemberId) -> None:
        self._ask(LeaveGroup(G, member))
        self.alive.pop(member, None)
        self.leased = {at: {held for held in leased if held[0] != member} for at, leased in self.leased.items()}

    @rule()
    def finish(self) -> None:
        """Everything that is leased is acknowledged, and everybody leaves."""
        for at in QUEUES:
            while self.leased[at]:
                self._acknowledge(at, min(self.leased[at], key=lambda held: held[1]))
        for member in [*self.alive]:
            self.leave(member)

    @precondition(lambda self: self.exists and not self._living())
    @rule()
    def delete(self) -> None:
        command = DeleteGroup(G, self.now)
        if any(self.leased.values()):
            with pytest.raises(GroupActive):
                self._ask(command)
            return
        self._ask(command)
        self.exists, self.mode, self.claims, self.alive = False, None, {}, {}
        self.void = dict.fromkeys(QUEUES, 0)
        self._moved((0, 0))

    @rule(seconds=st.sampled_from([1.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: len(self._living()) < len(self.alive))
    @rule()
    def let_go_of_the_silent(self) -> None:
        self._ask(DropSilent(self.now))
        self.alive = {member: expires for member, expires in self.alive.items() if expires > self.now}
        group = next(iter(self.engine.grouping.groups()), None)
        assert (group.members.keys() if group else set()) == self.alive.keys()

    @rule()
    def crash(self) -> None:
        """Whoever had not gone is alive for one session from the start on."""
        known = self.engine.grouping.groups()
        self.running.close()
        self._open()
        after = self.engine.grouping.groups()
        assert [(group.mode, group.queues, group.policy) for group in after] == [
            (group.mode, group.queues, group.policy) for group in known
        ]
        self.now = 0.0
        self.alive = dict.fromkeys((member for group in after for member in group.members), SESSION_SECONDS)

    @invariant()
    def the_group_stands_where_it_was_left(self) -> None:
        if self.exists:
            status = self._ask(GetGroup(G, self.now))
            assert isinstance(status, GroupStatus)
            offsets = {at: owned.offset for at, owned in status.group.queues.items()}
            assert {at: offsets.get(at, 0) for at in QUEUES} == self.committed
            assert (status.group.mode, status.leases.leased) == (self.mode, sum(map(len, self.leased.values())))

    def teardown(self) -> None:
        self.house.close()


TestGroupRoom = GroupRoom.TestCase
TestGroupRoom.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
