"""Consumer groups as values."""

import pytest

from broker.errors import BadRequest, ModeConflict, NotOwner, OffsetOutOfRange
from broker.groups import membership
from broker.groups.changes import applied, change_between, is_nothing
from broker.groups.membership import Group, Ranges
from broker.groups.policies import check_policy
from broker.groups.resetting import standing, targets
from broker.groups.retention import HOLDS_FOR, Need, needed
from broker.groups.tally import Tally
from broker.model import (
    Beat,
    Claim,
    Edge,
    Exponential,
    GroupName,
    GroupPolicy,
    MemberId,
    Mode,
    OffsetCommit,
    QueueRange,
    Since,
    Start,
    Steps,
    TopicName,
    TopicQueue,
)

TOPIC = TopicName("t")
QUEUES = [TopicQueue(TOPIC, number) for number in range(4)]
RANGES: Ranges = dict.fromkeys(QUEUES, QueueRange(0, 10))
A, B = MemberId("a"), MemberId("b")
WEEK_MS = HOLDS_FOR.total_seconds() * 1_000


def find(at: TopicQueue, at_ms: int) -> int:
    """As if the message of offset n had been stored at 100 n."""
    return -(-at_ms // 100)


def beaten(group: Group, member: MemberId, now: float = 0.0, start: Start = Edge.EARLIEST) -> Group:
    sign = Beat(group.name, member, frozenset([TOPIC]), 3.0, start)
    group = membership.without_silent(membership.beat(group, sign, now), now)
    return membership.settle(group, RANGES, find)


def begun(start: Start) -> list[int]:
    group = beaten(Group(GroupName("g")), A, start=start)
    return [owned.offset for owned in membership.answer(group, A, RANGES).owned]


def claim(group: Group, number: int) -> Claim:
    return Claim(QUEUES[number], group.queues[QUEUES[number]].generation)


@pytest.fixture
def group() -> Group:
    return beaten(Group(GroupName("g"), mode=Mode.OFFSET), A)


@pytest.mark.parametrize(
    ("start", "offset"),
    [(Edge.EARLIEST, 0), (Edge.LATEST, 10), (Since(450), 5), (Since(0), 0), (Since(99_999), 10)],
)
def test_the_first_member_owns_everything_from_where_it_wants_to_begin(start: Start, offset: int) -> None:
    assert begun(start) == [offset] * 4


def test_a_queue_that_came_to_a_topic_later_is_read_from_its_beginning() -> None:
    group = beaten(Group(GroupName("g")), A, start=Edge.LATEST)
    added = TopicQueue(TOPIC, 4)
    group = membership.settle(group, {**RANGES, added: QueueRange(0, 7)}, find)
    assert (group.queues[QUEUES[0]].offset, group.queues[added].offset) == (10, 0)


def test_what_went_before_it_was_read_is_passed_over(group: Group) -> None:
    shrunk = {**RANGES, QUEUES[1]: QueueRange(6, 10)}
    assert [owned.offset for owned in membership.answer(group, A, shrunk).owned] == [0, 6, 0, 0]


def test_a_second_member_waits_until_the_first_gives_back(group: Group) -> None:
    group = beaten(group, B)
    assert not membership.answer(group, B, RANGES).owned
    release = membership.answer(group, A, RANGES).release
    group = membership.settle(membership.release(group, A, release), RANGES, find)
    assert [owned.claim.at for owned in membership.answer(group, B, RANGES).owned] == [given.at for given in release]


def test_a_silent_members_queues_go_to_the_living_with_a_new_generation(group: Group) -> None:
    group = beaten(beaten(group, B, now=1.0), B, now=3.5)
    assert {(owned.owner, owned.generation) for owned in group.queues.values()} == {(B, 2)}
    assert A not in group.members


def test_a_member_that_is_late_but_not_replaced_keeps_its_queues(group: Group) -> None:
    assert beaten(group, A, now=100.0).queues == group.queues


def test_a_commit_moves_forward_only(group: Group) -> None:
    group = membership.commit(group, A, [OffsetCommit(claim(group, 0), 5)], RANGES)
    group = membership.commit(group, A, [OffsetCommit(claim(group, 0), 3)], RANGES)
    assert group.queues[QUEUES[0]].offset == 5


def test_a_commit_under_an_old_generation_is_refused(group: Group) -> None:
    old = claim(group, 0)
    group = membership.settle(membership.release(group, A, [old]), RANGES, find)
    assert group.queues[QUEUES[0]].owner == A
    with pytest.raises(NotOwner):
        membership.commit(group, A, [OffsetCommit(claim(group, 1), 5), OffsetCommit(old, 5)], RANGES)


def test_a_commit_beyond_the_end_is_refused(group: Group) -> None:
    with pytest.raises(OffsetOutOfRange):
        membership.commit(group, A, [OffsetCommit(claim(group, 0), 11)], RANGES)


def test_a_commit_to_a_topic_that_is_gone_is_refused(group: Group) -> None:
    with pytest.raises(NotOwner):
        membership.commit(group, A, [OffsetCommit(claim(group, 0), 1)], {})


def test_a_beat_is_due_three_times_a_session_and_once_a_second(group: Group) -> None:
    assert membership.answer(group, A, RANGES).beat_seconds == 1.0


def test_a_group_changes_over_only_when_nobody_reads_it(group: Group) -> None:
    assert membership.enter(group, Mode.OFFSET, "a") == group
    with pytest.raises(ModeConflict):
        membership.enter(group, Mode.LEASE, "its members are a")
    leasing = membership.enter(membership.leave(group, A), Mode.LEASE, "")
    with pytest.raises(ModeConflict):
        membership.enter(leasing, Mode.OFFSET, "a")
    assert membership.enter(leasing, Mode.OFFSET, "").mode is Mode.OFFSET


def test_members_that_lease_own_no_queues() -> None:
    assert not beaten(Group(GroupName("g"), mode=Mode.LEASE), A).queues


def test_whoever_owned_a_queue_that_was_moved_commits_nothing_there(group: Group) -> None:
    old = claim(group, 0)
    moved = membership.settle(membership.moved(group, {QUEUES[0]: 2}), RANGES, find)
    assert moved.queues[QUEUES[0]].offset == 2
    with pytest.raises(NotOwner):
        membership.commit(moved, A, [OffsetCommit(old, 5)], RANGES)
    assert moved.queues[QUEUES[1]] == group.queues[QUEUES[1]]


def test_a_reset_goes_where_it_is_told(group: Group) -> None:
    ranges = {**RANGES, QUEUES[3]: QueueRange(4, 10)}
    assert standing(Group(group.name), ranges) == (0, 0, 0, 4)
    assert targets(Edge.LATEST, ranges, find) == (10,) * 4
    assert targets(Since(200), ranges, find) == (2, 2, 2, 4)
    assert targets((1, 2, 3, 4), ranges, find) == (1, 2, 3, 4)


@pytest.mark.parametrize(("offsets", "refusal"), [((1, 2, 3), BadRequest), ((1, 2, 3, 11), OffsetOutOfRange)])
def test_a_reset_to_offsets_that_do_not_fit_is_refused(offsets: tuple[int, ...], refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        targets(offsets, RANGES, find)


def test_only_what_outlives_a_restart_is_a_change(group: Group) -> None:
    assert is_nothing(change_between(group, beaten(group, A, now=1.0)))
    committed = membership.commit(group, A, [OffsetCommit(claim(group, 2), 5)], RANGES)
    assert change_between(group, committed) == {"name": "g", "queues": [("t", 2, "a", 1, 5)]}


@pytest.mark.parametrize("backoff", [Steps((1, 2)), Exponential(5, 60, 1.5)])
def test_a_group_is_the_same_after_its_changes_are_read_back(backoff: Steps | Exponential) -> None:
    policy = GroupPolicy(3, backoff, 2.5, 7)
    group = Group(GroupName("g"), mode=Mode.OFFSET, policy=policy, last_member_at_ms=9)
    group = membership.leave(beaten(beaten(group, A, start=Since(300)), B, start=Edge.LATEST), A)
    nothing = Group(group.name)
    assert applied(nothing, change_between(nothing, group)) == group
    gone = membership.without_topic(group, TOPIC)
    assert not applied(group, change_between(group, gone)).queues


def test_a_group_without_members_holds_nothing_after_a_week(group: Group) -> None:
    left = membership.leave(group, A)
    groups = [
        membership.moved(left, {QUEUES[0]: 3}),
        membership.moved(Group(GroupName("other"), last_member_at_ms=1_000), {QUEUES[0]: 5}),
    ]
    assert needed(groups, QUEUES[0], 0) == Need(3, GroupName("g"))
    assert needed(groups, QUEUES[0], int(WEEK_MS)) == Need(5, GroupName("other"))
    assert needed(groups, QUEUES[0], int(WEEK_MS) + 1_000) is None
    assert needed([group], QUEUES[0], int(WEEK_MS) * 9) == Need(0, GroupName("g"))


def test_a_rate_is_the_mean_of_the_last_minute_or_of_what_there_was() -> None:
    tally = Tally()
    assert tally.per_second(5_000) == 0.0
    tally.add(30, 10_000)
    tally.add(30, 11_999)
    assert tally.per_second(11_999) == 30.0
    assert tally.per_second(69_000) == 1.0
    assert tally.per_second(70_500) == 0.5
    assert tally.per_second(500_000) == 0.0
    for second in range(100, 200):
        tally.add(7, second * 1_000)
    assert tally.per_second(199_000) == 7.0


def test_a_rate_is_over_a_minute_behind_a_clock_that_was_set_back_too() -> None:
    tally = Tally()
    tally.add(3, 86_400_000)
    for second in range(100):
        tally.add(3, second * 1_000)
    assert tally.per_second(99_000) == 3.0


@pytest.mark.parametrize(
    "policy",
    [
        GroupPolicy(attempts=0),
        GroupPolicy(most_leased=100_001),
        GroupPolicy(messages_per_second=-1.0),
        GroupPolicy(messages_per_second=float("nan")),
        GroupPolicy(backoff=Steps(())),
        GroupPolicy(backoff=Steps((43_200_001,))),
        GroupPolicy(backoff=Exponential(10, 5, 2.0)),
        GroupPolicy(backoff=Exponential(1, 5, 0.5)),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(policy: GroupPolicy) -> None:
    check_policy(GroupPolicy())
    with pytest.raises(BadRequest):
        check_policy(policy)
