"""Rules of the machine: fetches from any offset, and members of a group that reads by offset."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from broker.errors import NotOwner, OffsetOutOfRange
from broker.face.consuming.dead_letters import GivenUp
from broker.model import Beat, BeatAnswer, Claim, GroupName, MemberId, OffsetCommit, TopicName, TopicQueue
from tests.support.broker_machine.base import NEWS, ORDERS, READERS, TOPICS
from tests.support.broker_machine.letters import Letters
from tests.support.broker_model import At, Place

MEMBERS = st.sampled_from(["a", "b"])
BOTH = frozenset([TopicName(ORDERS), TopicName(NEWS)])
SESSION_SECONDS = 3_600.0


class Reading(Letters):
    """A queue belongs to one member at a time, what was committed stays so, keys keep their order."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: dict[tuple[str, At], int] = {}
        """The generation in which a member was given a queue last, whether it has it still or not."""

    @rule(topic=TOPICS, queue=st.integers(0, 3), offset=st.integers(-3, 12), from_end=st.booleans())
    def look(self, topic: str, queue: int, offset: int, from_end: bool) -> None:
        known = self.model.topics[topic]
        queue %= known.read_queues
        lowest, end = known.ranges[queue]
        at = max(0, end - offset if from_end else lowest + offset)
        if lowest <= at <= end:
            fetched = self.ask(self.fetch((topic, queue), at, most=5))
            held = known.queues[queue][at : at + 5]
            self.check_same(fetched, range(at, at + len(held)), [each.sent for each in held])
            assert (fetched.lowest_offset, fetched.end_offset, fetched.next_offset) == (lowest, end, at + len(held))
            return
        with pytest.raises(OffsetOutOfRange) as refused:
            self.ask(self.fetch((topic, queue), at))
        assert (refused.value.fields["lowest"], refused.value.fields["end"]) == (lowest, end)

    @rule(member=MEMBERS, obeys=st.booleans())
    def beat(self, member: str, obeys: bool) -> None:
        answer = self._beat(member)
        if obeys and answer.release:
            self.ask(self.broker.groups.release(GroupName(READERS), MemberId(member), answer.release))
            for claim in answer.release:
                self.readers.owners.pop(tuple(claim.at))

    def _beat(self, member: str) -> BeatAnswer:
        answer = self.ask(self.broker.groups.beat(Beat(GroupName(READERS), MemberId(member), BOTH, SESSION_SECONDS)))
        self.readers.members.add(member)
        for owned in answer.owned:
            at, generation = tuple(owned.claim.at), owned.claim.generation
            owner, known = self.readers.owners.get(at, (member, 0))
            assert owner == member, f"{at} belongs to {owner}"
            assert generation >= max(known, 1)
            lowest, _ = self.model.topics[at[0]].ranges[at[1]]
            assert owned.offset == max(self.readers.committed.setdefault(at, lowest), lowest)
            self.readers.owners[at] = member, generation
            self.claims[member, at] = generation
        return answer

    @rule(member=MEMBERS)
    def leave(self, member: str) -> None:
        if member in self.readers.members:
            self.ask(self.broker.groups.leave(GroupName(READERS), MemberId(member)))
            self.readers.members.discard(member)
            self.readers.owners = {at: own for at, own in self.readers.owners.items() if own[0] != member}

    @rule(member=MEMBERS, topic=TOPICS, queue=st.integers(0, 3), most=st.integers(0, 8))
    def read_on(self, member: str, topic: str, queue: int, most: int) -> None:
        """Fetches for the group from where it stands, and commits that; or may not."""
        at = (topic, queue % self.model.topics[topic].read_queues)
        lowest, end = self.model.topics[topic].ranges[at[1]]
        offset = max(self.readers.committed.get(at, lowest), lowest)
        fetched = self.ask(self.fetch(at, offset, group=READERS, most=most + 1))
        if not self.model.topics[topic].was_altered:
            assert len(fetched.bodies) == min(most + 1, end - offset)
        for number, body in enumerate(fetched.bodies):
            place = (*at, offset + number)
            assert self.model.at(place).sent.body == body
            self.model.check_order(place, self._is_read)
        self.commit(member, *at, offset + len(fetched.bodies) - lowest)

    def _is_read(self, place: Place) -> bool:
        return place[2] < self.readers.committed.get(place[:2], 0)

    @rule(member=MEMBERS, topic=TOPICS, queue=st.integers(0, 3), offset=st.integers(0, 30))
    def commit(self, member: str, topic: str, queue: int, offset: int) -> None:
        """Only who owns the queue now, and not beyond its end."""
        at = (topic, queue % self.model.topics[topic].read_queues)
        lowest, end = self.model.topics[topic].ranges[at[1]]
        offset += lowest
        generation = self.claims.get((member, at), 0)
        claim = Claim(TopicQueue(TopicName(topic), at[1]), generation)
        committing = self.broker.groups.commit(GroupName(READERS), MemberId(member), [OffsetCommit(claim, offset)])
        if not self._owns(member, at, generation):
            with pytest.raises(NotOwner):
                self.ask(committing)
        elif offset > end:
            with pytest.raises(OffsetOutOfRange):
                self.ask(committing)
        else:
            (now,) = self.ask(committing)
            self.readers.committed[at] = max(self.readers.committed[at], offset)
            assert now.offset == self.readers.committed[at]

    def _owns(self, member: str, at: At, generation: int) -> bool:
        """What the broker gave to somebody without having told yet belongs to nobody as far as the model knows."""
        return self.readers.owners.get(at) == (member, generation)

    @rule(member=MEMBERS, topic=TOPICS, queue=st.integers(0, 3), offset=st.integers(0, 8))
    def give_up(self, member: str, topic: str, queue: int, offset: int) -> None:
        at = (topic, queue % self.model.topics[topic].read_queues)
        lowest, end = self.model.topics[topic].ranges[at[1]]
        claim = Claim(TopicQueue(TopicName(topic), at[1]), self.claims.get((member, at), 0))
        place = (*at, lowest + offset)
        given = GivenUp(GroupName(READERS), MemberId(member), claim, [place[2]], 7, "no")
        if not self._owns(member, at, claim.generation):
            with pytest.raises(NotOwner):
                self.ask(self.broker.dead_letters.give_up(given))
        elif place[2] < end:
            self.ask(self.broker.dead_letters.give_up(given))
            is_done = place[2] < self.readers.committed[at]
            self.readers.committed[at] = max(self.readers.committed[at], place[2] + 1)
            self.take_letters(READERS, {} if is_done else {place: 7}, {})

    @invariant()
    def readers_stand_where_they_committed(self) -> None:
        report = self.ask(self.broker.groups.get(GroupName(READERS)))
        assert report.status.group.members.keys() == self.readers.members
        for at, owned in report.status.group.queues.items():
            lowest = self.model.topics[at.topic].lowest[at.queue]
            if owned.generation:  # else it may have come to the topic, and nobody has had it yet
                self.readers.committed.setdefault(tuple(at), lowest)
            assert owned.offset == self.readers.committed.get(tuple(at), lowest), at
        assert report.status.group.queues.keys() >= self.readers.committed.keys()
