"""Which admin an executor dials next, and how soon."""

import itertools
import random

import pytest

from executor.link.admins import HASTY_WELCOME_SECONDS, MAX_WAIT_SECONDS, WELCOME_SECONDS, Admins
from executor.settings import ExecutorSettings
from protos.errors import BadConfiguration, PermissionDenied, Unauthenticated

ADDRESSES = ("a", "b", "c")


def certain() -> float:
    """Leaves the order as it is, and pauses at their longest."""
    return 1.0


def test_executors_spread_over_the_admins() -> None:
    chance = random.Random(1).random
    assert {Admins(ADDRESSES, chance).current for _ in range(50)} == set(ADDRESSES)


def test_the_next_one_is_dialled_at_once_and_a_pause_follows_a_round_in_vain() -> None:
    admins = Admins(ADDRESSES, certain)
    pauses, dialled = [], []
    for _ in range(30):
        dialled.append(admins.current)
        admins.leave()
        pauses.append(admins.pause_seconds)
    assert dialled == list(ADDRESSES) * 10
    assert pauses == list(itertools.chain(*((0, 0, pause) for pause in (0.1, 0.2, 0.4, 0.8, 1.6, *[3.0] * 5))))


def test_a_pause_is_shorter_by_chance_alone_and_never_grows_beyond_its_limit() -> None:
    admins = Admins(("a",), random.Random(1).random)
    for _ in range(10_000):
        admins.leave()
        assert 0.05 <= admins.pause_seconds <= MAX_WAIT_SECONDS


def test_a_link_that_stood_ends_the_count_and_one_that_broke_at_once_does_not() -> None:
    admins = Admins(ADDRESSES, certain)
    for _ in ADDRESSES:
        admins.stood(0.9)
        admins.leave()
    assert admins.pause_seconds > 0
    admins.stood(1.0)
    assert admins.pause_seconds == 0
    admins.leave()
    assert (admins.current, admins.pause_seconds) == ("b", 0)


def test_a_welcome_is_waited_for_longer_once_nobody_was_quick() -> None:
    admins = Admins(ADDRESSES, certain)
    waits = []
    for _ in range(4):
        waits.append(admins.welcome_seconds)
        admins.leave()
    assert waits == [HASTY_WELCOME_SECONDS] * 3 + [WELCOME_SECONDS]
    assert Admins(("a",), certain).welcome_seconds == WELCOME_SECONDS


def test_a_refusal_counts_when_it_is_what_all_said_last() -> None:
    admins = Admins(("a", "b"), certain)
    first, second = Unauthenticated(), PermissionDenied(reason="no")
    refusals = []
    for refusal in (first, None, None, first, second):
        admins.leave(refusal)
        refusals.append(admins.refusal)
    assert refusals[:4] == [None] * 4
    assert refusals[4] in (first, second)


def test_several_admins_are_named_with_commas_between() -> None:
    assert ExecutorSettings(admin="a:1, b:2 ,a:1").admins == ("a:1", "b:2")


@pytest.mark.parametrize("admin", ["", "a:1,", ",", "a:1,,b:2"])
def test_an_admin_without_an_address_is_a_fault(admin: str) -> None:
    with pytest.raises(BadConfiguration, match="admin: each admin"):
        ExecutorSettings.from_env(admin=admin)
