"""What holds for every assignment of queues to members, and for every handover in a group."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.groups import membership
from broker.groups.assignment import assign
from broker.groups.membership import Group
from broker.model import Beat, Claim, GroupName, MemberId, QueueRange, TopicName, TopicQueue

TOPICS = [TopicName("a"), TopicName("b")]
QUEUES = [TopicQueue(topic, number) for topic in TOPICS for number in range(5)]
MEMBERS = [MemberId(f"m{number}") for number in range(4)]
READERS = st.dictionaries(st.sampled_from(MEMBERS), st.frozensets(st.sampled_from(TOPICS), min_size=1))
OWNERS = st.dictionaries(st.sampled_from(QUEUES), st.sampled_from(MEMBERS))


@given(READERS, OWNERS)
def test_every_queue_that_is_read_has_one_reader_of_its_topic(
    readers: dict[MemberId, frozenset[TopicName]], owners: dict[TopicQueue, MemberId]
) -> None:
    desired = assign(QUEUES, readers, owners)
    assert desired.keys() == {queue for queue in QUEUES if any(queue.topic in topics for topics in readers.values())}
    assert all(queue.topic in readers[member] for queue, member in desired.items())


@given(READERS, OWNERS)
def test_members_that_read_the_same_differ_by_one_queue_at_most(
    readers: dict[MemberId, frozenset[TopicName]], owners: dict[TopicQueue, MemberId]
) -> None:
    everything = dict.fromkeys(readers, frozenset(TOPICS))
    loads = [list(assign(QUEUES, everything, owners).values()).count(member) for member in everything]
    assert not loads or max(loads) - min(loads) <= 1


@given(READERS, OWNERS)
def test_an_assignment_that_is_carried_out_asks_for_nothing_more(
    readers: dict[MemberId, frozenset[TopicName]], owners: dict[TopicQueue, MemberId]
) -> None:
    desired = assign(QUEUES, readers, owners)
    assert assign(reversed(QUEUES), dict(reversed(readers.items())), desired) == desired


def find(at: TopicQueue, at_ms: int) -> int:
    raise AssertionError("nobody begins at an instant here")


class Groups(RuleBasedStateMachine):
    """Members come, go, fall silent and release in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.group = Group(GroupName("g"))
        self.ranges = dict.fromkeys(QUEUES, QueueRange(0, 0))
        self.believes: dict[MemberId, dict[TopicQueue, int]] = {member: {} for member in MEMBERS}
        self.sessions: dict[MemberId, float] = {}
        self.highest: dict[TopicQueue, int] = {}

    @rule(member=st.sampled_from(MEMBERS), topics=st.frozensets(st.sampled_from(TOPICS), min_size=1))
    def beat(self, member: MemberId, topics: frozenset[TopicName]) -> None:
        sign = Beat(self.group.name, member, topics, 3.0)
        group = membership.without_silent(membership.beat(self.group, sign, self.now), self.now)
        self.group = membership.settle(group, self.ranges, find)
        answer = membership.answer(self.group, member, self.ranges)
        self.sessions[member] = self.now + 3.0
        self.believes[member] = {owned.claim.at: owned.claim.generation for owned in answer.owned}
        assert {claim.at for claim in answer.release} <= self.believes[member].keys()

    @rule(member=st.sampled_from(MEMBERS))
    def release_what_another_one_should_have(self, member: MemberId) -> None:
        if member in self.group.members:
            answer = membership.answer(self.group, member, self.ranges)
            self._release(member, answer.release)

    @rule(member=st.sampled_from(MEMBERS))
    def release_everything_it_believes_to_own(self, member: MemberId) -> None:
        self._release(member, [Claim(at, generation) for at, generation in self.believes[member].items()])

    def _release(self, member: MemberId, claims: list[Claim]) -> None:
        for claim in claims:
            self.believes[member].pop(claim.at, None)
        self.group = membership.settle(membership.release(self.group, member, claims), self.ranges, find)

    @rule(member=st.sampled_from(MEMBERS))
    def leave(self, member: MemberId) -> None:
        self.believes[member] = {}
        self.group = membership.settle(membership.leave(self.group, member), self.ranges, find)

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nobody_alive_loses_a_queue_that_it_did_not_release(self) -> None:
        for member, held in self.believes.items():
            if self.sessions.get(member, 0.0) > self.now:
                for at, generation in held.items():
                    assert (self.group.queues[at].owner, self.group.queues[at].generation) == (member, generation)

    @invariant()
    def generations_only_rise(self) -> None:
        for at, owned in self.group.queues.items():
            assert owned.generation >= self.highest.get(at, 0)
            self.highest[at] = owned.generation


TestGroups = Groups.TestCase
