"""What an executor says becomes what can be kept, whatever it is; and which slots a link has taken."""

import json
from datetime import timedelta

import pytest

from admin.dispatch.convert import MAX_NUMBER, MAX_RESULT, MAX_TEXT, attempt_of, counters_of, outcome_of
from admin.dispatch.grpc_session import Session
from admin.domain.names import Attempt, ExecutorId, Group, HandlerName
from admin.ports import Executor
from protos.executor.v1 import link_pb2 as pb
from tests.support.admin_factories import NOW, order

RUN = order().id
MOST = 2**64 - 1
FIRST, SECOND, THIRD = (Attempt(RUN, index, 1) for index in range(3))
PUSH, SLOW = HandlerName("push"), HandlerName("slow")


@pytest.mark.parametrize("term", [2**63 - 1, MOST])
def test_numbers_are_within_what_a_database_keeps(term):
    said = pb.Outcome(attempt=pb.Attempt(run_id=RUN, shard=2**32 - 1, term=term), broker_term=term)
    said.state = pb.OUTCOME_STATE_FENCED
    said.retry_after_ms = 2**32 - 1
    outcome = outcome_of(said)
    assert outcome.broker_term == outcome.attempt.term == MAX_NUMBER < 2**63
    assert outcome.attempt.index < 2**31
    counters = counters_of(pb.Counters(rows=term, published=term, done=term, total=term))
    assert {counters.rows, counters.published, counters.done, counters.total} == {MAX_NUMBER}
    assert attempt_of(pb.Attempt(run_id=RUN, shard=3, term=9)) == Attempt(RUN, 3, 9)


def test_texts_have_no_nul_and_an_end():
    odd = "a\x00b" + "x" * (1 << 20)
    said = pb.Outcome(result=odd, error_code=odd, error_message=odd, traceback=odd, state=pb.OUTCOME_STATE_FAILED)
    said.counters.cursor = odd
    outcome = outcome_of(said)
    assert outcome.fault is not None
    fault = outcome.fault
    kept = [outcome.result, outcome.counters.cursor, fault.code, fault.message, fault.traceback]
    assert all(text.startswith("a\ufffdb") and "\x00" not in text for text in kept)
    assert [len(text) for text in kept] == [MAX_RESULT, MAX_RESULT, 100, MAX_TEXT, MAX_TEXT]


def test_counts_that_nobody_could_keep_are_left_out():
    said = {f"c{number:02}": number for number in range(40)} | {"a": MOST, "b\n": 1, "": 1, "x" * 65: 1}
    kept = json.loads(counters_of(pb.Counters(counts=said)).counts)
    assert list(kept) == ["a", *(f"c{number:02}" for number in range(31))]
    assert (kept["a"], kept["c30"]) == (MAX_NUMBER, 30)


def _session(slots: int) -> Session:
    who = (ExecutorId("one"), "one", Group("g"), frozenset({PUSH, SLOW}))
    return Session(Executor(*who, slots, 0, False, "", NOW, NOW, limits={SLOW: 1}))


def test_what_beats_name_no_more_is_over_and_what_none_has_named_yet_is_held():
    session = _session(slots=2)
    session.hold({FIRST: PUSH, SECOND: PUSH})
    assert not session.name([]), "both are on their way to the executor"
    assert not session.name([FIRST])
    assert session.executor.used == 2
    assert session.name([SECOND]), "there is a slot where there was none"
    assert (session.holds(FIRST), session.holds(SECOND)) == (False, True)
    session.hold({THIRD: PUSH})
    assert not session.name([SECOND])
    assert session.executor.used == 2


def test_a_slot_is_told_to_be_free_only_where_none_was_and_one_is():
    session = _session(slots=2)
    session.hold({FIRST: PUSH})
    assert not session.free([FIRST]), "there was another one"
    session.hold({FIRST: PUSH, SECOND: PUSH})
    assert not session.free([])
    assert not session.free([THIRD])
    assert session.free([SECOND])


def test_a_handler_with_a_limit_of_its_own_is_not_offered_while_it_is_reached():
    session = _session(slots=4)
    session.hold({FIRST: SLOW, SECOND: PUSH})
    assert (session.executor.room.handlers, session.executor.room.left) == ({PUSH}, {SLOW: 0})
    assert not session.free([SECOND]), "there was room for others, and there is none for it"
    assert session.free([FIRST]), "whoever waits for it is to hear of it"
    assert session.executor.room.handlers == {PUSH, SLOW}


def test_a_handler_that_was_refused_rests_until_a_later_beat_or_until_a_slot_is_free():
    session = _session(slots=3)
    session.hold({FIRST: PUSH, SECOND: PUSH, THIRD: SLOW})
    session.refuse(SECOND, NOW + timedelta(seconds=1))
    assert session.executor.left == {PUSH: 0, SLOW: 0}
    assert session.executor.room.handlers == frozenset()
    session.see(NOW + timedelta(seconds=0.5))
    assert PUSH in session.executor.left
    session.see(NOW + timedelta(seconds=1))
    assert session.executor.room.handlers == {PUSH}
    session.hold({SECOND: PUSH})
    session.refuse(SECOND, NOW + timedelta(hours=1))
    session.shift(timedelta(hours=2))
    assert session.executor.room.handlers == frozenset(), "it rests on although the clock was set"
    assert session.free([FIRST]), "what has ended left a slot"
    assert session.executor.room.handlers == {PUSH}
