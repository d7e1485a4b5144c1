"""Leases over the whole engine against a model in plain lists, with crashes, checkpoints and time that passes."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.delivery.leases.settling import Action
from broker.engine.opening import Checkpointer
from broker.model import QueueKey
from tests.support.broker_engine import FragileDisk, PowerLoss, bodies_of, running_engine
from tests.support.broker_leases import (
    DEAD,
    GROUP,
    LEASE_MS,
    ORDERS,
    POLICY,
    lease,
    leasing,
    make_topics,
    publish,
    settle,
)

MEMBERS = st.sampled_from(["ann", "bob"])
KEYS = st.lists(st.sampled_from(["", "", "a", "b"]), min_size=1, max_size=4)


@dataclass
class Known:
    """A message as the model has it."""

    key: str
    state: str = "new"
    attempt: int = 0
    spared: int = 0
    member: str = ""
    until_ms: int = 0


class LeasesOfOneQueue(RuleBasedStateMachine):
    """One queue, one group, two members; the broker may lose power in the middle of any group."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.now_ms = 1_000
        self.messages: list[Known] = []
        self.dead: list[int] = []
        self.handings: list[tuple[str, int, int]] = []
        self.start()

    def start(self) -> None:
        self.disk = FragileDisk()
        self.running = running_engine(
            Path(self.directory.name) / "data", self.disk, lambda: self.now_ms, segment=1 << 20
        )
        self.engine, self.data = self.running.__enter__()
        make_topics(self.engine)

    @rule(keys=KEYS)
    def publish(self, keys: list[str]) -> None:
        first = len(self.messages)
        publish(self.engine, [b"%d" % number for number in range(first, first + len(keys))], keys, ordered=True)
        self.messages += [Known(key) for key in keys]

    @rule(member=MEMBERS, count=st.integers(1, 5))
    def lease(self, member: str, count: int) -> None:
        expected = self._hand_out(member, count)
        assert lease(self.engine, member, count) == expected
        self.handings += [(member, *handing) for handing in expected]

    def _hand_out(self, member: str, count: int) -> list[tuple[int, int]]:
        kept = [known for known in self.messages if known.state in ("leased", "waiting")]
        free = POLICY.most_leased - sum(known.state == "leased" and known.until_ms > self.now_ms for known in kept)
        free = min(count, free)
        due = [known for known in kept if known.until_ms <= self.now_ms and not self._is_behind(known)]
        taken = list[int]()
        for known in due[: max(free, 0)]:
            if known.attempt - known.spared >= POLICY.attempts:
                known.state = "dead"
                self.dead.append(self._offset(known))
            else:
                self._take(known, member, taken)
        fresh = [known for known in self.messages if known.state == "new"]
        for known in fresh[: free - len(taken)] if free > len(taken) else []:
            if any(known.key and each.key == known.key for each in (*kept, *map(self._at, taken))):
                known.state, known.until_ms = "waiting", 0
                kept.append(known)
            else:
                self._take(known, member, taken)
        return [(offset, self._at(offset).attempt) for offset in taken]

    def _at(self, offset: int) -> Known:
        return self.messages[offset]

    def _offset(self, known: Known) -> int:
        return next(offset for offset, each in enumerate(self.messages) if each is known)

    def _take(self, known: Known, member: str, taken: list[int]) -> None:
        known.state, known.member, known.until_ms = "leased", member, self.now_ms + LEASE_MS
        known.attempt += 1
        taken.append(self._offset(known))

    def _is_behind(self, known: Known) -> bool:
        """Whether an earlier message of its key is not done."""
        before = self.messages[: self._offset(known)]
        return bool(known.key) and any(each.key == known.key and each.state in ("leased", "waiting") for each in before)

    @rule(data=st.data(), action=st.sampled_from([*Action]), after_ms=st.sampled_from([None, 0, 3_000]))
    def settle(self, data: st.DataObject, action: Action, after_ms: int | None) -> None:
        if not self.handings:
            return
        member, offset, attempt = data.draw(st.sampled_from(self.handings))
        known = self.messages[offset]
        is_mine = (known.state, known.member, known.attempt) == ("leased", member, attempt)
        answer = settle(self.engine, member, action, (offset, attempt), after_ms=after_ms)
        assert bool(answer.refused) != (is_mine and known.until_ms > self.now_ms)
        if not answer.refused:
            self._settled(known, action, after_ms)

    def _settled(self, known: Known, action: Action, after_ms: int | None) -> None:
        failures = known.attempt - known.spared
        if action is Action.ACKNOWLEDGE:
            known.state = "done"
        elif action is Action.EXTEND:
            known.until_ms = self.now_ms + (after_ms or 0)
        elif action is Action.GIVE_BACK:
            known.state, known.until_ms, known.spared = "waiting", self.now_ms, known.spared + 1
        elif action is Action.GIVE_UP or failures >= POLICY.attempts:
            known.state = "dead"
            self.dead.append(self._offset(known))
        else:
            known.state = "waiting"
            known.until_ms = self.now_ms + (POLICY.backoff.wait_ms(failures) if after_ms is None else after_ms)

    @rule(milliseconds=st.sampled_from([1, 999, 1_000, 5_000, LEASE_MS]))
    def time_passes(self, milliseconds: int) -> None:
        self.now_ms += milliseconds

    @rule()
    def store_a_checkpoint(self) -> None:
        Checkpointer(self.engine, self.data, self.disk, 1, die=pytest.fail).close()

    @rule()
    def restart(self) -> None:
        self.running.__exit__(None, None, None)
        self.start()

    @rule(member=MEMBERS)
    def lose_power_while_handing_out(self, member: str) -> None:
        """Nobody was answered, so nobody has anything of it."""
        self.disk.budget = 20
        with suppress(PowerLoss):
            self.engine.commit([leasing(self.engine, member, 3)])
        self.restart()

    @invariant()
    def the_dead_are_buried_once_each(self) -> None:
        bodies = bodies_of(self.engine, QueueKey(DEAD.topic_id, 0))
        assert [int(body) for body in bodies] == self.dead

    @invariant()
    def the_floor_is_the_first_that_is_not_done(self) -> None:
        floor = self.engine.leasing.floors(GROUP).get(QueueKey(ORDERS.topic_id, 0), 0)
        ended = ("done", "dead")
        assert floor == next(
            (at for at, known in enumerate(self.messages) if known.state not in ended), len(self.messages)
        )

    def teardown(self) -> None:
        self.running.__exit__(None, None, None)
        self.directory.cleanup()


TestLeases = LeasesOfOneQueue.TestCase
TestLeases.settings = settings(stateful_step_count=30, max_examples=60, deadline=None)
