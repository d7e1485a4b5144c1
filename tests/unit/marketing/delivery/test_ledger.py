"""What goes on of a batch, and its numbers."""

from datetime import timedelta

import pytest

from examples.marketing.delivery.ledger import (
    LONGEST_DELAY,
    MOST_BODY_BYTES,
    MOST_BYTES,
    MOST_TRIES,
    STEPS,
    Ledger,
    fitting,
    tries_of,
)
from examples.marketing.messages import Counted, Phase
from examples.marketing.topics import COUNTED, FAILED, PARKED, SEND
from shardcast import Fail, Message
from tests.support.marketing import NOW, received

BODY = b'{"a": 1}'


def message(**properties: str) -> Message:
    return received([Message(BODY, key="1:7", tag="sms", properties=properties)])[0]


def test_each_try_waits_longer_and_after_the_last_one_it_fails() -> None:
    given, waits = message(phase="canary"), []
    for _ in range(MOST_TRIES):
        ledger = Ledger(NOW)
        ledger.tried(1, given, "down", timedelta(0))
        given = ledger.messages[0]
        assert (given.body, given.key, given.tag, given.properties["phase"]) == (BODY, "1:7", "sms", "canary")
        if given.topic == SEND:
            assert given.deliver_at is not None
            waits.append(given.deliver_at - NOW)
    assert tuple(waits) == STEPS
    assert len(waits) == 15
    assert (given.topic, given.deliver_at) == (FAILED, None)
    assert given.properties["reason"] == "16 tries, the last one: down"
    assert Counted.model_validate_json(ledger.messages[1].body) == Counted(promotion_id=1, phase=Phase.CANARY, failed=1)


@pytest.mark.parametrize(
    ("after", "wait"),
    [(timedelta(0), STEPS[0]), (timedelta(minutes=5), timedelta(minutes=5)), (timedelta(days=9), LONGEST_DELAY)],
)
def test_a_provider_that_asks_for_more_time_gets_it(after: timedelta, wait: timedelta) -> None:
    ledger = Ledger(NOW)
    ledger.tried(1, message(), "busy", after)
    [again] = ledger.messages
    assert again.deliver_at == NOW + wait


@pytest.mark.parametrize(("tries", "number"), [("3", 3), ("", 0), ("-1", 0), ("x", 0), ("٣", 3), ("999", 0)])
def test_tries_that_make_no_sense_are_none(tries: str, number: int) -> None:
    assert tries_of(message(tries=tries)) == number


def test_numbers_are_told_by_promotion_and_phase() -> None:
    ledger = Ledger(NOW)
    canary, other = message(phase="canary"), message()
    ledger.delivered(1, [canary, other, other])
    ledger.dropped(1, [other])
    ledger.capped(2, [canary])
    ledger.failed(1, canary, "no such device")
    ledger.lost(other, "no JSON")
    found = [Counted.model_validate_json(each.body) for each in ledger.messages if each.topic == COUNTED]
    assert found == [
        Counted(promotion_id=1, phase=Phase.CANARY, delivered=1, failed=1),
        Counted(promotion_id=1, phase=Phase.REST, delivered=2, dropped=1),
        Counted(promotion_id=2, phase=Phase.CANARY, capped=1),
    ]


def test_what_goes_aside_counts_for_nothing() -> None:
    ledger = Ledger(NOW)
    ledger.deferred([message()], NOW + timedelta(hours=1))
    ledger.parked([message(tries="2")], None)
    assert [(each.topic, each.deliver_at, dict(each.properties)) for each in ledger.messages] == [
        (SEND, NOW + timedelta(hours=1), {}),
        (PARKED, None, {"tries": "2"}),
    ]


def test_so_much_of_a_batch_is_handled_as_can_go_on_in_one_publish() -> None:
    half = Message(b"x" * (MOST_BYTES // 2))
    huge = Message(b"x" * (MOST_BYTES + 1))
    heavy = Message(b"", properties={"a": "x" * MOST_BYTES})
    small = Message(b"x")
    assert len(fitting(received([half, half]))) == 2
    assert len(fitting(received([half, half, small]))) == 2
    assert len(fitting(received([small, heavy]))) == 1
    assert len(fitting(received([huge, small]))) == 1


def test_what_is_too_large_to_go_on_is_given_up_when_its_turn_comes() -> None:
    monster, small = Message(b"x" * (MOST_BODY_BYTES + 1)), Message(b"x")
    assert len(fitting(received([small, monster]))) == 1
    with pytest.raises(Fail, match="it has 8323073 bytes: too many to go on"):
        fitting(received([monster, small]))


def test_properties_that_leave_no_room_for_a_reason_stay_behind() -> None:
    ledger = Ledger(NOW)
    heavy = {"phase": "canary", "tries": "2", "a": "x" * 32_000}
    ledger.lost(*received([Message(b"{", properties=heavy)]), "no JSON")
    ledger.lost(*received([Message(b"{", properties={"a": "x" * 4_000})]), "no JSON")
    [without, with_all] = ledger.messages
    assert without.properties == {"phase": "canary", "tries": "2", "reason": "no JSON"}
    assert with_all.properties.keys() == {"a", "reason"}
