"""What becomes of messages that a group reads by lease: every state under every move, and the rules around them."""

import itertools

import pytest

from broker.delivery.dead_letters import Gone
from broker.delivery.leases.changes import from_stored, to_stored
from broker.delivery.leases.handing import Asking, Entry, Handing, hand_out_again, hand_out_new
from broker.delivery.leases.settling import Action, Settlement, settle, spent
from broker.delivery.leases.state import LEASES, NEVER_MS, WINDOW, Change, Held, Leases, Move, State, retired, step
from broker.model import Exponential, GroupPolicy, MemberId, QueueRange, Steps

ANN, BOB = MemberId("ann"), MemberId("bob")
POLICY = GroupPolicy(attempts=3)


def asking(messages: int = 100, *, size: int = 1 << 20, now_ms: int = 0) -> Asking:
    return Asking(ANN, now_ms, now_ms + 1_000, messages, size, POLICY.attempts)


def new(leases: Leases, found: list[Entry], wanted: Asking | None = None) -> Handing:
    return hand_out_new(leases, wanted or asking(), found, found[-1].offset + 1)


def entries(*lanes: int, first: int = 0, size: int = 10, tag: int = 0) -> list[Entry]:
    return [Entry(offset, offset * size, size, tag, lane) for offset, lane in enumerate(lanes, first)]


def leased(*lanes: int) -> Leases:
    """So many messages, all that may be handed to Ann."""
    leases = Leases(0)
    leases.apply(new(leases, entries(*lanes)).change)
    return leases


def settled(leases: Leases, action: Action, *offsets: int, now_ms: int = 500, after_ms: int | None = None) -> Leases:
    attempts = [leases.held[offset].attempt for offset in offsets]
    settlement = Settlement(0, offsets, attempts, action, after_ms, "broken")
    decided = settle(leases, ANN, [settlement], POLICY, now_ms)
    assert not decided.refused
    leases.apply(decided.change)
    leases.apply(Change(leases.next, [dead.offset for dead in decided.dead]))
    return leases


def again(leases: Leases, now_ms: int) -> list[int]:
    handing = hand_out_again(leases, asking(now_ms=now_ms), entries_of(leases, now_ms))
    leases.apply(handing.change)
    return [entry.offset for entry in handing.taken]


def entries_of(leases: Leases, now_ms: int) -> list[Entry]:
    return [Entry(offset, 0, 10, 0, leases.held[offset].lane) for offset in leases.due(now_ms)]


@pytest.mark.parametrize(("state", "move"), [*itertools.product(State, Move)])
def test_what_the_table_does_not_name_cannot_happen(state: State, move: Move) -> None:
    if (state, move) in LEASES:
        assert step(state, move) is LEASES[state, move]
    else:
        with pytest.raises(KeyError):
            step(state, move)


def test_nothing_leads_out_of_done_and_dead() -> None:
    assert not {state for state, _ in LEASES} & {State.DONE, State.DEAD}
    assert {State.DONE, State.DEAD} <= {*LEASES.values()}


def test_a_message_goes_to_one_member_until_its_lease_runs_out() -> None:
    leases = leased(0, 0)
    assert again(leases, 999) == []
    assert again(leases, 1_000) == [0, 1]
    assert {held.attempt for held in leases.held.values()} == {2}


@pytest.mark.parametrize(
    ("member", "attempt", "now_ms"),
    [(BOB, 1, 500), (ANN, 2, 500), (ANN, 0, 500), (ANN, 1, 1_000)],
    ids=["another member", "a later attempt", "an earlier one", "run out"],
)
@pytest.mark.parametrize("action", [*Action])
def test_only_who_has_the_lease_may_settle_it(member: MemberId, attempt: int, now_ms: int, action: Action) -> None:
    leases = leased(0)
    decided = settle(leases, member, [Settlement(0, [0], [attempt], action, 5)], POLICY, now_ms)
    assert decided.refused == [(0, attempt)]
    assert decided.change == Change(1, [], {})
    assert not decided.dead


def test_the_first_word_about_a_message_counts() -> None:
    words = [Settlement(0, [0], [1], Action.ACKNOWLEDGE), Settlement(0, [0], [1], Action.RETRY)]
    decided = settle(leased(0), ANN, words, POLICY, 500)
    assert (decided.change.done, decided.refused) == ([0], [(0, 1)])


def test_the_floor_follows_the_first_message_that_is_not_done() -> None:
    leases = leased(0, 0, 0)
    assert settled(leases, Action.ACKNOWLEDGE, 1).floor == 0
    assert settled(leases, Action.ACKNOWLEDGE, 0).floor == 2
    assert settled(leases, Action.ACKNOWLEDGE, 2).floor == 3
    assert (leases.leased, leases.held) == (0, {})


def test_a_retry_waits_for_the_backoff_or_for_as_long_as_it_says() -> None:
    leases = leased(0, 0)
    settled(leases, Action.RETRY, 0)
    settled(leases, Action.RETRY, 1, after_ms=7)
    assert (again(leases, 506), again(leases, 507), again(leases, 1_499), again(leases, 1_500)) == ([], [1], [], [0])


def test_an_extension_is_from_now_on() -> None:
    leases = settled(leased(0), Action.EXTEND, 0, now_ms=900, after_ms=200)
    assert (again(leases, 1_099), again(leases, 1_100)) == ([], [0])


def test_a_returned_message_is_there_at_once_and_its_attempt_does_not_count() -> None:
    leases = leased(0)
    for handing in range(2, 10):
        settled(leases, Action.GIVE_BACK, 0, now_ms=500)
        assert again(leases, 500) == [0]
        assert (leases.held[0].attempt, leases.held[0].failures) == (handing, 1)


def test_the_last_attempt_that_fails_gives_the_message_up() -> None:
    leases = leased(0)
    for _ in range(2):
        settled(leases, Action.RETRY, 0, after_ms=0)
        assert again(leases, 500) == [0]
    decided = settle(leases, ANN, [Settlement(0, [0], [3], Action.RETRY, error="no")], POLICY, 500)
    assert [(dead.offset, dead.attempts, dead.error) for dead in decided.dead] == [(0, 3, "no")]


def test_the_last_lease_that_runs_out_gives_the_message_up_when_somebody_looks() -> None:
    leases = leased(0)
    assert (again(leases, 1_000), again(leases, 2_000)) == ([0], [0])
    handing = hand_out_again(leases, asking(now_ms=3_000), entries_of(leases, 3_000))
    assert ([entry.offset for entry in handing.dead], handing.taken) == ([0], [])


def test_the_messages_of_a_key_come_one_at_a_time_and_in_order() -> None:
    leases = leased(7, 0, 7, 9, 7)
    assert [offset for offset, held in leases.held.items() if held.member] == [0, 1, 3]
    settled(leases, Action.RETRY, 0, after_ms=100)
    assert again(leases, 599) == []
    assert again(leases, 600) == [0]
    settled(leases, Action.ACKNOWLEDGE, 0, now_ms=700)
    assert again(leases, 700) == [2]
    settled(leases, Action.GIVE_UP, 2, now_ms=700)
    assert again(leases, 700) == [4]


def test_a_message_behind_a_key_that_waits_is_held_back_in_a_later_look_too() -> None:
    leases = leased(7)
    leases.apply(new(leases, entries(7, 0, first=1)).change)
    assert (leases.held[1].member, leases.held[2].member) == ("", ANN)


def test_what_nobody_wants_is_done_without_being_handed_out() -> None:
    leases = Leases(0)
    second, fourth = entries(0, 0, 0, 0)[1::2]
    first = hand_out_new(leases, asking(1), [second, fourth], 6)
    assert ([entry.offset for entry in first.taken], first.change.next) == ([1], 3)
    leases.apply(first.change)
    rest = hand_out_new(leases, asking(), [fourth], 6)
    assert ([entry.offset for entry in rest.taken], rest.change.next) == ([3], 6)


def test_bytes_bound_what_is_handed_out_but_one_message_always_is() -> None:
    for size, count in ((1, 1), (20, 2), (29, 2), (30, 3)):
        assert len(new(Leases(0), entries(0, 0, 0, 0), asking(size=size)).taken) == count


def test_who_never_acknowledges_never_grows_the_window() -> None:
    leases, first = Leases(0), 0
    for _ in range(WINDOW // 1_000 + 3):
        found = entries(*[0] * 1_000, first=first)
        leases.apply(new(leases, found, asking(1_000)).change)
        first = leases.next
    assert len(leases.held) == leases.next == WINDOW
    assert leases.holds_back
    settled(leases, Action.ACKNOWLEDGE, 5)
    assert [entry.offset for entry in new(leases, entries(0, 0, first=first)).taken] == [WINDOW]


def test_what_is_not_stored_any_more_is_done() -> None:
    leases = leased(0, 7, 7)
    leases.apply(retired(leases, 2))
    assert ([*leases.held], leases.floor) == ([2], 2)
    leases.apply(retired(leases, 9))
    assert (leases.held, leases.next, leases.earliest_ms <= NEVER_MS) == ({}, 9, True)


def test_a_change_is_the_same_when_it_is_read_back() -> None:
    held = {0: Held(1, 5, ANN), 1: Held(1, 5, ANN), 2: Held(2, 9, error="é"), 5: Held(1, 5, ANN, 1, 7)}
    for change in (Change(9, [3, 4, 7], held), Change(0, []), Change(3, [0])):
        assert from_stored(to_stored(change)) == change


def test_a_state_is_made_again_of_its_snapshot() -> None:
    leases = settled(leased(7, 0, 7, 0), Action.RETRY, 0)
    copy = Leases(0)
    copy.apply(from_stored(to_stored(leases.snapshot())))
    assert (copy.held, copy.next, copy.leased, copy.earliest_ms) == (leases.held, 4, 2, 1_000)
    assert again(copy, 1_600) == again(leases, 1_600) == [0, 1, 3]


def test_the_named_backoff_is_rocketmqs() -> None:
    waits = [Steps().wait_ms(attempt) for attempt in (1, 2, 3, 4, 5, 16, 17, 18, 19, 400)]
    assert waits == [1_000, 5_000, 10_000, 30_000, 60_000, 1_800_000, 3_600_000, 7_200_000, 7_200_000, 7_200_000]


def test_an_exponential_backoff_grows_up_to_its_longest_wait() -> None:
    waits = [Exponential(100, 1_000, 2.0).wait_ms(attempt) for attempt in (1, 2, 3, 4, 5, 10_000)]
    assert waits == [100, 200, 400, 800, 1_000, 1_000]
    assert Exponential(100, 1_000, 1.0).wait_ms(10_000_000) == 100
    assert Exponential(100, 1_000, 1e308).wait_ms(2) == 1_000


def test_gone_dead_letters_leave_a_floor_behind_them() -> None:
    gone = Gone().with_([1, 3])
    assert ([offset for offset in range(5) if offset in gone], gone.floor, len(gone)) == ([1, 3], 0, 2)
    assert gone.with_([0]) == Gone(2, frozenset({3}))
    assert gone.before(3) == Gone(4)


def test_dead_letters_are_left_that_are_neither_gone_nor_retired() -> None:
    gone = Gone().with_([1, 3])
    assert [gone.left_of(QueueRange(lowest, 5)) for lowest in (0, 1, 2, 4, 5)] == [3, 2, 2, 1, 0]
    assert [gone.with_([0]).left_of(QueueRange(0, end)) for end in (1, 3, 5)] == [0, 1, 2]


def test_only_what_is_due_and_free_and_has_no_attempt_left_is_spent() -> None:
    leases = leased(7, 7, 0, 0)
    assert not leases.may_have_spent(1, 999)
    settled(leases, Action.GIVE_BACK, 2)
    assert [dead.offset for dead in spent(leases, 1, 600)] == []
    assert [(dead.offset, dead.attempts) for dead in spent(leases, 1, 1_000)] == [(0, 1), (3, 1)]
    leases.apply(Change(leases.next, [0, 3]))
    assert [*spent(leases, 1, 1_000)] == []
    assert not leases.may_have_spent(1, 1_000), "what was looked at once is not looked at again"


def test_what_a_busy_key_holds_back_fills_the_window_until_the_one_that_fails_is_done() -> None:
    leases, first = leased(7), 1
    while leases.next < WINDOW:
        leases.apply(new(leases, entries(*[7] * 1_000, first=first), asking(1_000)).change)
        first = leases.next
    assert not new(leases, entries(0, first=first)).taken, "others have to wait too"
    assert settled(leases, Action.ACKNOWLEDGE, 0).due(500) == [1]
    assert [entry.offset for entry in new(leases, entries(0, first=first)).taken] == [WINDOW]
