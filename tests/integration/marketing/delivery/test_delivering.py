"""What the push consumer does with a batch, over a real database and the recording provider."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from examples.marketing.delivery.decisions import BEHIND_MS, WAIT
from examples.marketing.messages import InformType, Phase
from examples.marketing.promotions.model import FrequencyCap, QuietHours, Steering
from examples.marketing.promotions.states import Verb
from examples.marketing.topics import COUNTED, FAILED, HOT_GOODS, PARKED, SEND
from shardcast import Fail, Message
from tests.support.marketing import NOW, Office, an_office, received

REST, CANARY = Phase.REST, Phase.CANARY


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with an_office(tmp_path) as office:
        yield office


def test_a_batch_is_delivered_and_counted_by_phase(office: Office) -> None:
    promotion = office.launched()
    canaries = [promotion.message.to(user, CANARY) for user in (1, 2)]
    done = office.deliver([*canaries, *(promotion.message.to(user) for user in (3, 4, 5))])
    assert done.handled.count == 5
    assert office.recorded() == [1, 2, 3, 4, 5]
    assert done.counts == {(promotion.id, CANARY): {"delivered": 2}, (promotion.id, REST): {"delivered": 3}}
    assert {each.topic for each in done.messages} == {COUNTED}


def test_what_is_recorded_names_promotion_user_message_and_time(office: Office, tmp_path: Path) -> None:
    promotion = office.launched()
    [message] = received([promotion.message.to(7)])
    office.deliver([message])
    [file] = (tmp_path / "deliveries").iterdir()
    at_ms = int(office.clock().timestamp() * 1000)
    assert file.read_text() == (
        f'{{"promotion_id": {promotion.id}, "user_id": "7", "message_id": "{message.message_id}", "at_ms": {at_ms}}}\n'
    )


def test_messages_of_a_promotion_that_was_cancelled_are_dropped(office: Office) -> None:
    promotion, other = office.launched(), office.launched()
    messages = [promotion.message.to(1), other.message.to(2)]
    assert office.deliver(messages).counts[promotion.id, REST] == {"delivered": 1}
    office.move(promotion, Verb.CANCEL)
    done = office.deliver(messages)
    assert done.counts == {(promotion.id, REST): {"dropped": 1}, (other.id, REST): {"delivered": 1}}
    assert office.recorded() == [1, 2, 2]


def test_the_state_of_a_promotion_is_read_twice_a_second(office: Office) -> None:
    promotion = office.launched()
    office.deliver([promotion.message.to(1)])
    office.move(promotion, Verb.PAUSE)
    office.clock.now -= timedelta(seconds=0.51)
    assert office.deliver([promotion.message.to(2)]).handled.count == 1
    office.clock.advance(seconds=0.02)
    assert office.deliver([promotion.message.to(3)]).handled.count == 0


def test_messages_of_a_completed_promotion_go_out_as_soon_as_it_is_launched_again(office: Office) -> None:
    promotion = office.launched()
    office.move(promotion, Verb.COMPLETE)
    assert office.deliver([promotion.message.to(1)]).counts == {(promotion.id, REST): {"dropped": 1}}
    office.move(promotion, Verb.LAUNCH)
    office.clock.now -= timedelta(seconds=1)  # no time for anybody to hear of it
    assert office.deliver([promotion.message.to(1)]).counts == {(promotion.id, REST): {"delivered": 1}}


@pytest.mark.parametrize("topic", [SEND, HOT_GOODS])
def test_messages_of_a_paused_promotion_stay_where_they_are_until_it_goes_on(office: Office, topic: str) -> None:
    promotion = office.launched()
    paused = office.move(promotion, Verb.PAUSE)
    messages = [promotion.message.to(user) for user in range(10)]
    waiting = office.deliver(messages, topic=topic)
    assert (waiting.handled.count, waiting.handled.after, waiting.messages) == (0, WAIT, [])
    office.move(paused, Verb.RESUME)
    assert office.deliver(messages, topic=topic).counts == {(promotion.id, REST): {"delivered": 10}}


def test_messages_of_a_paused_promotion_make_way_for_others(office: Office) -> None:
    paused, other = office.launched(), office.launched()
    office.move(paused, Verb.PAUSE)
    done = office.deliver([paused.message.to(1), paused.message.to(2)])
    assert (done.handled.count, done.users(PARKED), done.counts) == (2, [1, 2], {})
    done = office.deliver([paused.message.to(3), other.message.to(4)])
    assert (done.users(PARKED), done.counts) == ([3], {(other.id, REST): {"delivered": 1}})


def test_parked_messages_let_those_of_a_promotion_that_went_on_come_through_and_then_rest(office: Office) -> None:
    first, second = office.launched(), office.launched()
    for each in (first, second):
        office.move(each, Verb.PAUSE)
    parked = received([first.message.to(1)], topic=PARKED, at=office.clock())
    resumed = office.move(second, Verb.RESUME)
    done = office.deliver(parked)
    [aside] = done.to(PARKED)
    heard_at = datetime.fromtimestamp((resumed.resumed_at_ms + BEHIND_MS) / 1000, UTC)
    assert (done.handled.count, aside.deliver_at) == (1, heard_at)
    office.clock.now = heard_at
    assert office.deliver(received([aside], topic=PARKED, at=NOW)).handled.count == 0, "nothing is behind it now"
    office.move(first, Verb.RESUME)
    assert office.deliver(received([aside], topic=PARKED, at=NOW)).counts == {(first.id, REST): {"delivered": 1}}


def test_what_has_to_wait_beside_something_else_is_parked(office: Office) -> None:
    paused = office.launched()
    office.move(paused, Verb.PAUSE)
    done = office.deliver([paused.message.to(1), Message(b"{")])
    assert (done.handled.count, done.users(PARKED), len(done.to(FAILED))) == (2, [1], 1)


def test_in_quiet_hours_messages_are_put_off_to_their_end(office: Office) -> None:
    quiet = QuietHours(begin=time(8), end=time(10), zone="Asia/Shanghai")  # it is nine o'clock there
    promotion, loud = office.launched(steering=Steering(quiet=quiet)), office.launched()
    done = office.deliver([promotion.message.to(1, CANARY), loud.message.to(2)])
    [later] = done.to(SEND)
    assert later.deliver_at == NOW + timedelta(hours=1)
    assert (later.body, dict(later.properties)) == (promotion.message.to(1).body, {"phase": "canary"})
    assert done.counts == {(loud.id, REST): {"delivered": 1}}
    office.clock.now = later.deliver_at
    assert office.deliver([later]).counts == {(promotion.id, CANARY): {"delivered": 1}}


def test_a_rate_lets_through_so_many_a_second(office: Office) -> None:
    promotion = office.launched(steering=Steering(rate=100))
    messages = [promotion.message.to(user) for user in range(1_000)]
    begun, sent = office.clock(), 0
    while office.clock() - begun < timedelta(seconds=5):
        done = office.deliver(messages[sent:])
        sent += done.handled.count
        office.clock.now += done.handled.after
    assert 500 <= sent <= 550
    assert office.recorded() == list(range(sent))


def test_a_rate_of_one_goes_on(office: Office) -> None:
    promotion = office.launched(steering=Steering(rate=1))
    messages = [promotion.message.to(user) for user in range(3)]
    handled = [office.deliver(messages[done:]).handled for done in (0, 1)]
    assert [(each.count, each.after) for each in handled] == [(1, timedelta(0)), (0, timedelta(seconds=1))]


def test_a_rate_holds_back_its_own_messages_and_what_stands_behind_them(office: Office) -> None:
    slow, other = office.launched(steering=Steering(rate=4)), office.launched()
    messages = [other.message.to(1), slow.message.to(2), slow.message.to(3), other.message.to(4)]
    done = office.deliver([*messages, Message(b"{")])
    assert (done.handled.count, office.recorded()) == (2, [1, 2])
    done = office.deliver(messages[2:])
    assert (done.handled.count, done.handled.after) == (0, timedelta(seconds=0.25))


def test_a_user_gets_no_more_than_the_cap_of_all_promotions_together(office: Office) -> None:
    capped = Steering(cap=FrequencyCap(most=2, hours=24))
    first, second, free = office.launched(steering=capped), office.launched(steering=capped), office.launched()
    assert office.deliver([first.message.to(1), first.message.to(2)]).counts == {(first.id, REST): {"delivered": 2}}
    third = office.launched(steering=capped)
    assert office.deliver([second.message.to(1), second.message.to(2), free.message.to(1)]).counts == {
        (second.id, REST): {"delivered": 2},
        (free.id, REST): {"delivered": 1},
    }
    assert office.deliver([third.message.to(1)]).counts == {(third.id, REST): {"capped": 1}}
    again = Message(second.message.to(1).body, properties={"tries": "1"})
    assert office.deliver([again]).counts == {(second.id, REST): {"delivered": 1}}, "another try asks no more"
    office.clock.advance(hours=25)
    assert office.deliver([third.message.to(1)]).counts == {(third.id, REST): {"delivered": 1}}


def test_what_nobody_can_deliver_fails_with_its_body_and_a_reason(office: Office) -> None:
    promotion = office.launched()
    saved = office.launched().message.model_copy(update={"promotion_id": 999})
    bodies = [b"{", b"x" * 9_000, promotion.message.to(1).body.replace(b"app_push", b"pigeon"), b"", b"\xff"]
    unknown = promotion.message.model_validate({**saved.model_dump()}).to(5)
    done = office.deliver([*map(Message, bodies), unknown, promotion.message.to(1)])
    assert done.handled.count == 7
    failed = done.to(FAILED)
    assert {each.body for each in failed} == {*bodies, unknown.body}
    reasons = {each.body: each.properties["reason"] for each in failed}
    assert reasons[unknown.body] == "unknown promotion"
    assert "8192" in reasons[bodies[1]]
    assert "inform_type" in reasons[bodies[2]]
    assert all(reasons.values())
    assert (done.counts, office.recorded()) == ({(promotion.id, REST): {"delivered": 1}}, [1])


def test_a_number_that_no_database_keeps_is_malformed(office: Office) -> None:
    promotion = office.launched()
    body = promotion.message.to(1).body.replace(b'"promotion_id":1', b'"promotion_id":%d' % 2**64)
    assert "promotion_id" in office.deliver([Message(body)]).to(FAILED)[0].properties["reason"]


def test_a_large_batch_goes_on_in_parts_that_one_publish_takes(office: Office) -> None:
    huge = [Message(b"x" * (3 << 20))] * 3
    done = office.deliver(huge)
    assert (done.handled.count, len(done.to(FAILED))) == (1, 1)


def test_a_message_that_no_publish_takes_becomes_a_dead_letter_and_what_is_before_it_is_done_first(
    office: Office,
) -> None:
    promotion = office.launched()
    messages = [promotion.message.to(1), Message(b"x" * ((8 << 20) - 40))]
    assert office.deliver(messages).handled.count == 1
    with pytest.raises(Fail, match="too many"):
        office.deliver(messages[1:])


def test_each_channel_has_its_provider(tmp_path: Path) -> None:
    mail = {"kind": "recording", "directory": str(tmp_path / "mail")}
    with an_office(tmp_path, mail=mail) as office:
        by_mail, by_sms = office.launched(inform_type=InformType.MAIL), office.launched(inform_type=InformType.SMS)
        office.deliver([by_mail.message.to(1), by_sms.message.to(2)])
        assert office.recorded() == [2]
        assert len(list((tmp_path / "mail").iterdir())) == 1


def test_with_once_what_was_done_is_not_done_again_and_a_resend_is(tmp_path: Path) -> None:
    with an_office(tmp_path, once=True) as office:
        promotion = office.launched()
        messages = [promotion.message.to(user) for user in (1, 2, 2)]
        for _ in range(2):
            assert office.deliver(messages).counts == {(promotion.id, REST): {"delivered": 3}}
        assert office.recorded() == [1, 2]
        office.deliver([Message(messages[0].body, properties={"resend": "1"})])
        assert office.recorded() == [1, 2, 1]


def test_with_once_what_somebody_else_is_at_work_on_comes_again(tmp_path: Path) -> None:
    with an_office(tmp_path, once=True) as office:
        promotion, limits = office.launched(), office.desk.shop.limits
        key = f"{promotion.id}:1::0"
        with limits.once_all([key], window=timedelta(days=1)) as ours:
            assert ours == [key]
            done = office.deliver([promotion.message.to(1), promotion.message.to(2)])
        assert (office.recorded(), done.users(SEND)) == ([2], [1])
        [again] = done.to(SEND)
        assert again.deliver_at == office.clock() + timedelta(seconds=60)
        assert office.deliver([again]).counts == {(promotion.id, REST): {"delivered": 1}}
        assert office.recorded() == [2], "the other one did it"


@pytest.mark.parametrize(("file", "table"), [("shop.db", "promotions"), ("limits.db", "shardcast_rates")])
def test_while_a_database_is_away_nothing_is_handled_and_nothing_fails(tmp_path: Path, file: str, table: str) -> None:
    with an_office(tmp_path, limits=f"sqlite:///{tmp_path / 'limits.db'}") as office:
        promotion = office.launched(steering=Steering(rate=1_000))
        office.deliver([promotion.message.to(0)])
        office.clock.advance(seconds=1)
        with closing(sqlite3.connect(tmp_path / file)) as database:
            database.execute(f"ALTER TABLE {table} RENAME TO gone")
            waiting = office.deliver([promotion.message.to(1)])
            assert (waiting.handled.count, waiting.handled.after, waiting.messages) == (0, WAIT, [])
            database.execute(f"ALTER TABLE gone RENAME TO {table}")
        assert office.deliver([promotion.message.to(1)]).counts == {(promotion.id, REST): {"delivered": 1}}
        assert office.recorded() == [0, 1]
