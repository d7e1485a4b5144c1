"""Consumer groups as values, and what of them survives a restart."""

from pathlib import Path

import pytest

from broker.errors import NotOwner, OffsetOutOfRange
from broker.groups import membership
from broker.groups.membership import Group, Ranges
from broker.groups.store import GroupStore
from broker.log.disk import Disk
from broker.model import Beat, Claim, GroupName, MemberId, OffsetCommit, QueueRange, TopicName, TopicQueue

TOPIC = TopicName("t")
QUEUES = [TopicQueue(TOPIC, number) for number in range(4)]
RANGES: Ranges = dict.fromkeys(QUEUES, QueueRange(0, 10))
A, B = MemberId("a"), MemberId("b")


def beaten(group: Group, member: MemberId, now: float = 0.0, *, from_latest: bool = False) -> Group:
    sign = Beat(group.name, member, frozenset([TOPIC]), 3.0, from_latest)
    return membership.settle(membership.without_silent(membership.beat(group, sign, now), now), RANGES)


def claim(group: Group, number: int) -> Claim:
    return Claim(QUEUES[number], group.queues[QUEUES[number]].generation)


@pytest.fixture
def group() -> Group:
    return beaten(Group(GroupName("g")), A)


def test_the_first_member_owns_everything_from_where_it_wants_to_begin(group: Group) -> None:
    assert [owned.offset for owned in membership.answer(group, A, RANGES).owned] == [0] * 4
    latest = beaten(Group(GroupName("g")), A, from_latest=True)
    assert [owned.offset for owned in membership.answer(latest, A, RANGES).owned] == [10] * 4


def test_a_second_member_waits_until_the_first_gives_back(group: Group) -> None:
    group = beaten(group, B)
    assert not membership.answer(group, B, RANGES).owned
    release = membership.answer(group, A, RANGES).release
    group = membership.settle(membership.release(group, A, release), RANGES)
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
    group = membership.settle(membership.release(group, A, [old]), RANGES)
    assert group.queues[QUEUES[0]].owner == A
    with pytest.raises(NotOwner):
        membership.commit(group, A, [OffsetCommit(claim(group, 1), 5), OffsetCommit(old, 5)], RANGES)


def test_a_commit_beyond_the_end_is_refused(group: Group) -> None:
    with pytest.raises(OffsetOutOfRange):
        membership.commit(group, A, [OffsetCommit(claim(group, 0), 11)], RANGES)


def test_a_beat_is_due_three_times_a_session_and_once_a_second(group: Group) -> None:
    assert membership.answer(group, A, RANGES).beat_seconds == 1.0


def test_owners_are_alive_for_one_session_after_a_restart(tmp_path: Path, group: Group) -> None:
    store = GroupStore(tmp_path, Disk())
    store.save(membership.commit(group, A, [OffsetCommit(claim(group, 2), 5)], RANGES))
    restored = GroupStore(tmp_path, Disk()).load(now=50.0)[group.name]
    assert restored.queues[QUEUES[2]].offset == 5
    assert not membership.answer(beaten(restored, B, now=52.9), B, RANGES).owned
    assert len(membership.answer(beaten(restored, B, now=53.0), B, RANGES).owned) == 4
