"""A promotion by buckets of users, on a real server: each user gets one message, whatever comes in between."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from examples.marketing.fanout.buckets import is_canary
from examples.marketing.fanout.launching import NOBODY
from examples.marketing.fanout.reading import bucket_message
from examples.marketing.messages import PHASE, Phase, PromotionType, UserBucket
from examples.marketing.promotions.states import State, Verb
from examples.marketing.store.progress import Counts
from examples.marketing.store.tables import coupon_grants
from examples.marketing.topics import BUCKET_GROUP, LAUNCH_GROUP, PROMOTION_SAVED, USER_BUCKETS
from shardcast import Message
from tests.support.promoting import USERS, Scene, a_scene, event_of, once_each, until

ALL = range(1, USERS + 1)
CANARY = {"canary": {"share": 0.1, "hold_above": 0.5}}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with a_scene(tmp_path) as scene:
        yield scene


def bucket(promotion_id: int, first_id: int, last_id: int) -> Message:
    return bucket_message(UserBucket(promotion_id=promotion_id, phase=Phase.REST, first_id=first_id, last_id=last_id))


def test_each_user_gets_one_message_and_the_promotion_ends_when_all_are_handled(scene: Scene) -> None:
    promotion = scene.launch()
    scene.wait()
    assert scene.sent(promotion) == once_each(ALL)
    assert scene.now(promotion).state is State.RUNNING
    assert scene.counts(promotion) == Counts(covered=USERS, published=USERS)
    assert scene.steward() == {}
    scene.handle(promotion, Counts(delivered=USERS - 1, failed=1))
    assert scene.steward() == {"complete": 1}
    assert scene.now(promotion).state is State.COMPLETED


def test_an_event_that_comes_twice_and_one_of_an_older_version_launch_nothing(scene: Scene) -> None:
    saved = scene.save()
    changed = scene.save(promotion_id=saved.id, message="New")
    scene.publish(PROMOTION_SAVED, event_of(saved), event_of(changed), event_of(changed))
    scene.wait()
    assert scene.sent(changed) == once_each(ALL)
    assert all(b'"message":"New"' in each.body for each in scene.messages(changed))


def test_a_promotion_of_the_future_waits_for_its_time_however_far_it_is(scene: Scene) -> None:
    promotion = scene.launch(send_at=scene.server.now + timedelta(days=10))
    for days in (7, 2):
        scene.wait()
        scene.server.advance(timedelta(days=days))
        scene.wait()
        assert scene.now(promotion).state is State.SAVED
    scene.server.advance(timedelta(days=1, seconds=1))
    until(lambda: scene.now(promotion).state is State.RUNNING)
    scene.wait()
    assert scene.sent(promotion) == once_each(ALL)


def test_what_is_paused_waits_in_place_and_beside_others_goes_behind_them(scene: Scene) -> None:
    paused, other = scene.launch(), scene.save()
    scene.wait()
    scene.move(paused, Verb.PAUSE)
    scene.publish(USER_BUCKETS, *(bucket(paused.id, first, first + 999) for first in range(10_001, 18_001, 1_000)))
    scene.add_users(range(10_001, 18_001))
    scene.publish(PROMOTION_SAVED, event_of(other))
    scene.wait()  # the paused ones have gone behind these
    assert scene.sent(paused) == once_each(ALL)
    assert scene.sent(other) == once_each(ALL)
    scene.move(paused, Verb.RESUME)
    scene.server.advance(timedelta(seconds=40))
    scene.wait()
    assert scene.sent(paused) == once_each([*ALL, *range(10_001, 18_001)])


def test_the_rest_of_a_cancelled_promotion_is_covered_and_not_sent(scene: Scene) -> None:
    promotion = scene.launch()
    scene.wait()
    scene.move(promotion, Verb.CANCEL)
    scene.publish(USER_BUCKETS, bucket(promotion.id, 1, 3_000))
    scene.wait()
    assert scene.sent(promotion) == once_each(ALL)
    assert scene.counts(promotion) == Counts(covered=USERS + 3_000, published=USERS)


def test_canaries_go_first_and_the_others_once_these_did_well(scene: Scene) -> None:
    promotion = scene.launch(steering=CANARY)
    scene.wait()
    first = [number for number in ALL if is_canary(promotion.id, number, 0.1)]
    assert scene.sent(promotion) == once_each(first)
    assert {each.properties[PHASE] for each in scene.messages(promotion)} == {"canary"}
    assert scene.steward() == {}
    scene.handle(promotion, Counts(delivered=len(first)), Phase.CANARY)
    assert scene.steward() == {"go_to_rest": 1}
    scene.publish(PROMOTION_SAVED, event_of(scene.now(promotion)))  # the event once more
    scene.wait()
    assert scene.sent(promotion) == once_each(ALL)
    assert scene.counts(promotion) == Counts(covered=USERS, published=USERS - len(first))
    scene.handle(promotion, Counts(delivered=USERS - len(first)))
    assert scene.steward() == {"complete": 1}


def test_a_promotion_whose_canaries_fail_is_held_and_goes_on_when_somebody_says_so(scene: Scene) -> None:
    promotion = scene.launch(steering=CANARY)
    scene.wait()
    canaries = len(scene.sent(promotion))
    scene.handle(promotion, Counts(failed=canaries), Phase.CANARY)
    assert scene.steward() == {"hold": 1}
    held = scene.now(promotion)
    assert (held.state, held.reason) == (
        State.HELD,
        f"{canaries} of {canaries} canaries failed, 100.0%, more than 50.0%",
    )
    assert scene.steward() == {}
    scene.move(promotion, Verb.RESUME)
    assert scene.steward() == {"launch_rest": 1}
    scene.wait()
    assert scene.sent(promotion) == once_each(ALL)
    assert scene.steward() == {}


def test_only_those_who_get_one_of_the_coupons_are_told(scene: Scene) -> None:
    coupon = {
        "name": "Ten",
        "value_cents": 1_000,
        "stock": 1_700,
        "expires_at": "2027-06-01T00:00:00Z",
        "is_lazy": False,
    }
    promotion = scene.launch(promotion_type=PromotionType.PLATFORM_COUPON, coupon=coupon)
    scene.wait()
    with scene.shop.database.reading() as connection:
        holders = connection.execute(select(coupon_grants.c.user_id)).scalars().all()
    assert len(holders) == 1_700
    assert scene.sent(promotion) == once_each(holders)
    assert scene.counts(promotion) == Counts(covered=USERS, published=1_700)


def test_ids_with_wide_gaps_take_few_buckets(scene: Scene) -> None:
    far = [-(2**60), 2**40, 2**40 + 1, 2**61]
    scene.add_users(far)
    promotion = scene.launch()
    scene.wait()
    assert scene.sent(promotion) == once_each([*ALL, *far])
    assert scene.counts(promotion) == Counts(covered=2**60 + 2**61 + 1, published=USERS + 4)
    assert len(scene.server.messages(USER_BUCKETS)) < 1_000


def test_what_is_no_event_and_no_bucket_becomes_a_dead_letter_and_holds_up_nobody(scene: Scene) -> None:
    scene.publish(PROMOTION_SAVED, Message(b"{}"), Message(b"\xff" * 70_000), event_of(scene.save()))
    huge = b'{"promotion_id":1,"phase":"rest","first_id":0,"last_id":99999999999999999999}'
    scene.publish(USER_BUCKETS, Message(b"no JSON"), bucket(99, 1, 1_000), Message(huge))
    scene.wait()
    assert len(scene.server.messages(f"%DLQ%{LAUNCH_GROUP}")) == 2
    assert len(scene.server.messages(f"%DLQ%{BUCKET_GROUP}")) == 3
    assert len(scene.server.messages("platform_promotion_send_topic")) == USERS


def test_a_shop_without_users_completes_a_promotion_at_once(tmp_path: Path) -> None:
    with a_scene(tmp_path, count=0) as scene:
        promotion = scene.launch()
        scene.wait()
        ended = scene.now(promotion)
        assert (ended.state, ended.reason) == (State.COMPLETED, NOBODY)
