"""Rules of the machine: operators alter topics, reset groups, and retention goes over everything."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from broker.errors import BadRequest, GroupActive, OffsetsMoved, QueueNotDrained
from broker.groups.resetting import Reset
from broker.model import Edge, GroupName, TopicName
from broker.queues.altered.alteration import Alteration
from tests.support.broker_machine.base import READERS, TOPIC_NAMES, TOPICS, WAITS_MS, WORKERS
from tests.support.broker_machine.leasing import LATER_MS, LEASE_MS, Leasing
from tests.support.broker_machine.letters import GROUPS
from tests.support.broker_model import At

_EDGES = st.sampled_from([Edge.EARLIEST, Edge.LATEST])


class Operating(Leasing):
    """Offsets go back by resets alone; what a group needs stays; keys keep their order over altered queues."""

    @rule(topic=TOPICS, writes=st.sampled_from([1, 2, 3, 4]), shrinks=st.booleans())
    def alter(self, topic: str, writes: int, shrinks: bool) -> None:
        known = self.model.topics[topic]
        if writes > known.read_queues < len(known.queues):
            self.stop_and_start()  # where a queue that went begins when it comes again is in the checkpoint
        change = Alteration(writes, writes if shrinks else None)
        altering = self.broker.topics.alter(TopicName(topic), change)
        if writes % known.write_queues and known.write_queues % writes:
            with pytest.raises(BadRequest):
                self.ask(altering)
        elif shrinks and not self._is_drained(topic, writes):
            with pytest.raises((QueueNotDrained, BadRequest)):
                self.ask(altering)
        else:
            altered = self.ask(altering)
            known.was_altered |= altered.write_queues != known.write_queues
            known.write_queues = writes
            known.read(writes if shrinks else max(known.read_queues, writes))
            assert (altered.write_queues, altered.read_queues) == (writes, known.read_queues)

    def _is_drained(self, topic: str, queues: int) -> bool:
        """Whether every group that reads the topic, and one at least, has read all from this queue on."""
        known = self.model.topics[topic]
        groups = [name for name, group in self.groups.items() if any(at[0] == topic for at in group.committed)]
        if not groups:
            return all(lowest == end for lowest, end in known.ranges[queues : known.read_queues])
        return all(
            max(known.ranges[queue][0], self._standing(name, (topic, queue))) >= known.ranges[queue][1]
            for name in groups
            for queue in range(queues, known.read_queues)
        )

    def _standing(self, name: str, at: At) -> int:
        """Up to where the group has read; where it never did, from the lowest offset on."""
        if at not in self.groups[name].committed:
            return self.model.topics[at[0]].lowest[at[1]]
        return self.floor(at) if name == WORKERS else self.readers.committed[at]

    @rule(name=GROUPS, topic=TOPICS, to=_EDGES | st.integers(-2, 10), expects=st.sampled_from(["right", "wrong", ""]))
    def preview_and_reset(self, name: str, topic: str, to: Edge | int, expects: str) -> None:
        """As a careful operator does: nothing moves unless the group stands where the preview said."""
        previewed = self.ask(self.broker.groups.reset(self._reset(name, topic, to, preview=True)))
        assert previewed.before == self._all_standing(name, topic)
        expected = {"right": previewed.before, "wrong": (previewed.before[0] + 1, *previewed.before[1:])}.get(expects)
        resetting = self.broker.groups.reset(self._reset(name, topic, to, expected=expected))
        if expects == "wrong":
            with pytest.raises(OffsetsMoved):
                self.ask(resetting)
        elif self._is_active(name):
            with pytest.raises(GroupActive):
                self.ask(resetting)
        else:
            assert self.ask(resetting) == previewed
            self._moved(name, topic, previewed.after)

    @rule(name=GROUPS, topic=TOPICS, to=_EDGES | st.integers(-2, 10))
    def force_a_reset(self, name: str, topic: str, to: Edge | int) -> None:
        self._moved(name, topic, self.ask(self.broker.groups.reset(self._reset(name, topic, to, force=True))).after)

    def _reset(self, name: str, topic: str, to: Edge | int, **given: object) -> Reset:
        """To an edge, or so many messages before where it stands; fewer than none: behind that."""
        where: Edge | tuple[int, ...] = (
            to
            if isinstance(to, Edge)
            else tuple(
                min(max(lowest, self._standing(name, (topic, queue)) - to), end)
                for queue, (lowest, end) in enumerate(self.model.topics[topic].ranges)
            )
        )
        return Reset(GroupName(name), TopicName(topic), where, **given)  # type: ignore[arg-type]

    def _all_standing(self, name: str, topic: str) -> tuple[int, ...]:
        queues = range(self.model.topics[topic].read_queues)
        return tuple(self._standing(name, (topic, queue)) for queue in queues)

    def _is_active(self, name: str) -> bool:
        handings = self.workers.handings.values()
        has_leases = any(known.member and known.until_ms > self.now_ms for known in handings)
        return bool(self.groups[name].members) or (name == WORKERS and has_leases)

    def _moved(self, name: str, topic: str, after: tuple[int, ...]) -> None:
        """All claims and leases of the topic are void."""
        group, queues = self.groups[name], {(topic, queue) for queue in range(len(after))}
        group.committed |= {at: after[at[1]] for at in queues}
        group.owners = {at: owner for at, owner in group.owners.items() if at not in queues}
        group.handings = {place: known for place, known in group.handings.items() if place[:2] not in queues}

    @rule()
    def retain(self) -> None:
        """What is too old goes, but for what a group has not read."""
        before = {name: topic.ranges for name, topic in self.model.topics.items()}
        swept = self.ask(self.broker.retainer.run_once())
        retired = 0
        for name, topic in self.model.topics.items():
            _, now = self.broker.topics.get(TopicName(name))
            for queue, held in enumerate(now):
                lowest, end = before[name][queue]
                retired += held.lowest_offset - lowest
                if held.lowest_offset != lowest:
                    self._check_retired((name, queue), held.lowest_offset)
                assert held.end_offset == end
                topic.lowest[queue] = held.lowest_offset
        assert swept.messages == retired
        self.compare_everything()

    def _check_retired(self, at: At, lowest: int) -> None:
        topic = self.model.topics[at[0]]
        assert topic.lowest[at[1]] < lowest <= len(topic.queues[at[1]])
        assert topic.retention_ms is not None
        gone = topic.queues[at[1]][topic.lowest[at[1]] : lowest]
        assert max(stored.at_ms for stored in gone) <= self.now_ms - topic.retention_ms
        for name in (READERS, WORKERS):
            assert at not in self.groups[name].committed or lowest <= self._standing(name, at)

    @rule()
    def read_everything(self) -> None:
        """Both groups come to the end, whatever was done before, and stay there."""
        self._drain_readers()
        self._drain_workers()
        self.compare_everything()

    def _drain_readers(self) -> None:
        self.leave("b")
        self.beat("a", obeys=True)
        while any(self._standing(READERS, at) < self._end(at) for at in self.readers.committed):
            before = {**self.readers.committed}
            for topic, queue in before:
                if queue < self.model.topics[topic].read_queues:
                    self.read_on("a", topic, queue, 1_000)
            assert self.readers.committed != before, "nothing can be read any more"

    def _drain_workers(self) -> None:
        while left := [name for name in TOPIC_NAMES if [*self._undone(name)]]:
            self.lives.now_ms += max(LATER_MS, LEASE_MS, *WAITS_MS)
            before = self._progress()
            for topic in left:
                self.lease("c", topic, 100)
                mine = [place for place in self.workers.handings if place[0] == topic and self._has("c", place)]
                self.finish("c", topic, mine)
            assert self._progress() != before, "nothing can be leased"

    def _progress(self) -> list[tuple[int, bool]]:
        return [(known.attempt, known.is_done) for known in self.workers.handings.values()]

    def _end(self, at: At) -> int:
        topic = self.model.topics[at[0]]
        return len(topic.queues[at[1]]) if at[1] < topic.read_queues else 0
