"""Rules of the machine: members of a group that reads by lease are handed messages and settle them."""

from collections.abc import Iterator, Sequence

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from broker.delivery.leases.settling import Action, Settlement
from broker.face.consuming.leasing import LeasedBatch, WantedLease
from broker.model import Edge, GroupName, MemberId, TopicName
from tests.support.broker_machine.base import ATTEMPTS, MOST_LEASED, TOPICS, WAITS_MS, WORKERS
from tests.support.broker_machine.reading import Reading
from tests.support.broker_model import At, Handing, Place

MEMBERS = st.sampled_from(["c", "d"])
ACTIONS = st.sampled_from([*Action, Action.ACKNOWLEDGE, Action.ACKNOWLEDGE])
LEASE_MS = 10_000
LATER_MS = 30_000  # the longest that a member asks to wait


class Leasing(Reading):
    """A message has one member at a time, comes again until it is done, and its attempts count."""

    @rule(member=MEMBERS, topic=TOPICS, most=st.sampled_from([1, 2, 5, 100]))
    def lease(self, member: str, topic: str, most: int) -> None:
        for queue, (lowest, _) in enumerate(self.model.topics[topic].ranges):
            self.workers.committed.setdefault((topic, queue), lowest)
        eligible, doomed = self._eligible(topic), self._doomed(topic)
        room = min(most, MOST_LEASED - self._leased_beside(topic))
        batch = self.ask(self.broker.leasing.lease(_wanted(member, topic, most)))
        self.workers.members.add(member)
        for place in self.take_letters(WORKERS, {}, doomed):
            self.workers.handings[place].is_done = True
        handed = [*self._handed(topic, batch)]
        assert len(handed) <= max(0, room)
        if eligible and room > 0 and not self.model.topics[topic].was_altered:
            assert handed
            is_plain = not doomed and not any(self.model.at(place).sent.ordered for place in self._undone(topic))
            assert not is_plain or len(handed) == min(room, len(eligible))
        for place, attempt in handed:
            assert place in eligible, f"{place} is not to be had"
            self.model.check_order(place, self._is_done_before)
            self._hand_out(place, attempt, member, batch.expires_at_ms)

    def _handed(self, topic: str, batch: LeasedBatch) -> Iterator[tuple[Place, int]]:
        columns = zip(batch.queues, batch.offsets, batch.attempts, batch.bodies, strict=True)
        lanes = set[tuple[int, str]]()
        for number, (queue, offset, attempt, body) in enumerate(columns):
            sent = self.model.at((topic, queue, offset)).sent
            assert (sent.body, sent.key.encode()) == (body, batch.keys[number] if batch.keys else b"")
            lane = (queue, sent.key)
            assert not (sent.ordered and sent.key and lane in lanes), f"{sent.key} twice at a time"
            if sent.ordered and sent.key:
                lanes.add(lane)
            yield (topic, queue, offset), attempt

    def _hand_out(self, place: Place, attempt: int, member: str, until_ms: int) -> None:
        known = self.workers.handings.setdefault(place, Handing(0, 0, None, 0))
        assert attempt == known.attempt + 1
        assert until_ms == self.now_ms + LEASE_MS
        known.attempt, known.failures = attempt, known.failures + 1
        known.member, known.until_ms = member, until_ms

    def _undone(self, topic: str) -> Iterator[Place]:
        for place in self.model.places(topic):
            known = self.workers.handings.get(place)
            if place[2] >= self.workers.committed.get(place[:2], 0) and not (known and known.is_done):
                yield place

    def _eligible(self, topic: str) -> set[Place]:
        """What may be handed out now; of ordered messages of a key the first one that is not done."""
        lanes, eligible = set[tuple[int, str]](), set[Place]()
        for place in self._undone(topic):
            sent, known = self.model.at(place).sent, self.workers.handings.get(place)
            lane = (place[1], sent.key)
            is_first = not (sent.ordered and sent.key and lane in lanes)
            if sent.ordered and sent.key:
                lanes.add(lane)
            if is_first and (known is None or (known.until_ms <= self.now_ms and known.failures < ATTEMPTS)):
                eligible.add(place)
        return eligible | self._behind_doomed(topic)

    def _behind_doomed(self, topic: str) -> set[Place]:
        """One call may give up the first of a key and hand out the one behind it."""
        doomed = {(place[1], self.model.at(place).sent.key) for place in self._doomed(topic)}
        return {
            place
            for place in self._undone(topic)
            if (place[1], self.model.at(place).sent.key) in doomed and place not in self.workers.handings
        }

    def _doomed(self, topic: str) -> dict[Place, int]:
        """What has no attempt left and is due, with its attempts."""
        known = ((place, self.workers.handings.get(place)) for place in self._undone(topic))
        return {
            place: handing.failures
            for place, handing in known
            if handing and handing.until_ms <= self.now_ms and handing.failures >= ATTEMPTS
        }

    def _leased_beside(self, topic: str) -> int:
        """Those that count against what the group may have: a lease that ran out does until its topic is looked at."""
        handings = self.workers.handings.items()
        return sum(
            1
            for place, known in handings
            if known.member and not known.is_done and (place[0] != topic or known.until_ms > self.now_ms)
        )

    def _is_done_before(self, place: Place) -> bool:
        known = self.workers.handings.get(place)
        return place[2] < self.workers.committed.get(place[:2], 0) or bool(known and known.is_done)

    @precondition(lambda self: self.workers.handings)
    @rule(member=MEMBERS, action=ACTIONS, after_ms=st.sampled_from([None, 0, 700, LATER_MS]), data=st.data())
    def settle(self, member: str, action: Action, after_ms: int | None, data: st.DataObject) -> None:
        """Some of what was ever handed out: only what the member has now, by its last attempt, is settled."""
        topic = data.draw(st.sampled_from(sorted({place[0] for place in self.workers.handings})))
        known = sorted(place for place in self.workers.handings if place[0] == topic)
        places = data.draw(st.lists(st.sampled_from(known), unique=True, max_size=6, min_size=1))
        stale = {places[0]} if data.draw(st.sampled_from([False, False, True])) else set()
        settlements = [*self._settlements(places, action, after_ms, stale)]
        mine = {place for place in places if place not in stale and self._has(member, place)}
        refused = self.ask(
            self.broker.leasing.settle(GroupName(WORKERS), MemberId(member), TopicName(topic), settlements)
        )
        told = {(topic, int(each.fields["queue"]), int(each.fields["offset"])) for each in refused}
        assert told == {*places} - mine
        dead = {place: self._settle(place, action, after_ms) for place in mine}
        self.take_letters(WORKERS, {place: attempts for place, attempts in dead.items() if attempts}, {})

    def _settlements(
        self, places: Sequence[Place], action: Action, after_ms: int | None, stale: set[Place]
    ) -> Iterator[Settlement]:
        for place in places:
            attempt = self.workers.handings[place].attempt - (place in stale)
            yield Settlement(place[1], [place[2]], [attempt], action, after_ms, "no")

    def finish(self, member: str, topic: str, places: Sequence[Place]) -> None:
        """Acknowledges what the member has."""
        settlements = [*self._settlements(places, Action.ACKNOWLEDGE, None, set())]
        name = GroupName(WORKERS)
        assert not self.ask(self.broker.leasing.settle(name, MemberId(member), TopicName(topic), settlements))
        for place in places:
            self._settle(place, Action.ACKNOWLEDGE, None)

    def _has(self, member: str, place: Place) -> bool:
        known = self.workers.handings[place]
        return known.member == member and known.until_ms > self.now_ms and not known.is_done

    def _settle(self, place: Place, action: Action, after_ms: int | None) -> int:
        """What becomes of it; its attempts if it is dead, else 0."""
        known = self.workers.handings[place]
        has_no_more = action is Action.RETRY and known.failures >= ATTEMPTS
        if action is Action.EXTEND:
            known.until_ms = self.now_ms + (after_ms or 0)
            return 0
        known.member = None
        if action is Action.ACKNOWLEDGE or action is Action.GIVE_UP or has_no_more:
            known.is_done = True
            return 0 if action is Action.ACKNOWLEDGE else known.failures
        known.until_ms = self.now_ms
        if action is Action.GIVE_BACK:
            known.failures -= 1
        else:
            known.until_ms += WAITS_MS[min(known.failures, len(WAITS_MS)) - 1] if after_ms is None else after_ms
        return 0

    @rule(member=MEMBERS)
    def stop_leasing(self, member: str) -> None:
        """What it has is for anybody at once."""
        if member in self.workers.members:
            self.ask(self.broker.groups.leave(GroupName(WORKERS), MemberId(member)))
            self.workers.members.discard(member)
            for place in [place for place in self.workers.handings if self._has(member, place)]:
                self._settle(place, Action.GIVE_BACK, None)

    def floor(self, at: At) -> int:
        """Everything before it is done."""
        offset = self.workers.committed[at]
        while (known := self.workers.handings.get((*at, offset))) and known.is_done:
            offset += 1
        return offset

    @invariant()
    def workers_stand_where_all_before_is_done(self) -> None:
        report = self.ask(self.broker.groups.get(GroupName(WORKERS)))
        assert report.status.group.members.keys() == self.workers.members
        found = {tuple(at): owned.offset for at, owned in report.status.group.queues.items()}
        assert {at: found.pop(at) for at in self.workers.committed} == {
            at: self.floor(at) for at in self.workers.committed
        }
        assert found == {(topic, queue): self.model.topics[topic].lowest[queue] for topic, queue in found}
        has = [known.member and known.until_ms > self.now_ms for known in self.workers.handings.values()]
        assert report.status.leases.leased == sum(map(bool, has))


def _wanted(member: str, topic: str, most: int) -> WantedLease:
    return WantedLease(
        GroupName(WORKERS), MemberId(member), TopicName(topic), most, LEASE_MS, 0.0, frozenset(), Edge.EARLIEST
    )
