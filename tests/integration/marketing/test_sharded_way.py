"""A promotion by the shards of a job, on a real server: to all, to a frozen audience, of hot goods, and again."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from examples.marketing.fanout import following, runs
from examples.marketing.fanout.buckets import is_canary
from examples.marketing.fanout.launching import NOBODY
from examples.marketing.messages import RESEND, InformType, Phase, PromotionType
from examples.marketing.promotions.model import Promotion, Steering, Way
from examples.marketing.promotions.states import State, Verb
from examples.marketing.store import launches, promotions, resends, tables
from examples.marketing.store.progress import Counts
from examples.marketing.store.tables import coupon_grants, coupons, failures, products, users
from examples.marketing.topics import HOT_GOODS
from tests.support.promoting import START, USERS, Scene, a_scene, once_each, until

ALL = range(1, USERS + 1)
IN_PARIS = {"field": "city", "among": ["Paris"]}
COUPON = {
    "name": "Ten off",
    "value_cents": 1_000,
    "stock": 700,
    "expires_at": "2027-06-01T00:00:00Z",
    "is_lazy": False,
}
DESIGNATED = {"promotion_type": PromotionType.DESIGNATED_COUPON, "audience": IN_PARIS, "coupon": COUPON}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with a_scene(tmp_path) as scene:
        yield scene


def run_of(scene: Scene, promotion: Promotion, phase: Phase = Phase.REST) -> str:
    """The run that sends a phase, once it is started."""

    def found() -> str | None:
        with scene.shop.database.reading() as connection:
            return launches.run_of(connection, promotion.id, phase)

    until(found)
    run_id = found()
    assert run_id is not None
    return run_id


def test_each_user_gets_one_message_and_the_promotion_ends_when_all_are_handled(scene: Scene) -> None:
    promotion = scene.launch(way=Way.SHARDS)
    scene.server.wait(run_of(scene, promotion))
    assert scene.sent(promotion) == once_each(ALL)
    assert scene.steward() == {}
    assert scene.counts(promotion) == Counts(published=USERS)
    scene.handle(promotion, Counts(delivered=USERS))
    assert scene.steward() == {"complete": 1}
    assert scene.now(promotion).state is State.COMPLETED


def test_only_one_run_ever_sends_a_promotion(scene: Scene) -> None:
    promotion = scene.launch(way=Way.SHARDS)
    run_id = run_of(scene, promotion)
    scene.server.wait(run_id)
    again = scene.server.trigger(runs.SEND, {"promotion_id": promotion.id, "phase": "rest"})  # by hand
    assert again.id != run_id
    scene.server.wait(again, state="skipped")
    assert scene.sent(promotion) == once_each(ALL)


def test_what_is_not_launched_is_not_sent_by_hand(scene: Scene) -> None:
    promotion = scene.save(way=Way.SHARDS)
    scene.server.wait(scene.server.trigger(runs.SEND, {"promotion_id": promotion.id, "phase": "rest"}), state="failed")
    assert not scene.sent(promotion)


def test_canaries_go_first_by_a_run_of_their_own(scene: Scene) -> None:
    promotion = scene.launch(way=Way.SHARDS, steering={"canary": {"share": 0.1}})
    scene.server.wait(run_of(scene, promotion, Phase.CANARY))
    canaries = [number for number in ALL if is_canary(promotion.id, number, 0.1)]
    assert scene.sent(promotion) == once_each(canaries)
    assert scene.steward() == {}
    scene.handle(promotion, Counts(delivered=len(canaries)), Phase.CANARY)
    assert scene.steward() == {"go_to_rest": 1}
    scene.server.wait(run_of(scene, promotion))
    assert scene.sent(promotion) == once_each(ALL)


def test_what_is_paused_in_the_middle_goes_on_where_it_stood(scene: Scene) -> None:
    promotion = scene.launch(way=Way.SHARDS, steering={"rate": 400})
    run_id = run_of(scene, promotion)
    until(lambda: scene.sent(promotion))
    scene.move(promotion, Verb.PAUSE)
    steer(scene, promotion, Steering())  # or it would go on for seconds
    assert scene.server.run(run_id).state == "running"
    assert 0 < len(scene.sent(promotion)) < USERS
    scene.move(promotion, Verb.RESUME)
    scene.server.wait(run_id)
    assert scene.sent(promotion) == once_each(ALL)


def test_a_run_that_has_rested_for_long_leaves_its_place_and_is_retried_when_the_promotion_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "IN_PLACE_SECONDS", 0.0)
    promotion = scene.launch(way=Way.SHARDS, steering={"rate": 400})
    run_id = run_of(scene, promotion)
    until(lambda: scene.sent(promotion))
    scene.move(promotion, Verb.PAUSE)
    assert scene.server.wait(run_id, state="failed").errors
    assert scene.steward() == {}
    scene.move(promotion, Verb.RESUME)
    steer(scene, promotion, Steering())
    assert scene.steward() == {"retry": 1}
    scene.server.wait(run_id)
    assert scene.sent(promotion) == once_each(ALL)
    assert scene.steward() == {}
    assert scene.counts(promotion) == Counts(published=USERS)


def test_what_is_cancelled_in_the_middle_stops(scene: Scene) -> None:
    promotion = scene.launch(way=Way.SHARDS, steering={"rate": 400})
    run_id = run_of(scene, promotion)
    until(lambda: scene.sent(promotion))
    scene.move(promotion, Verb.CANCEL)
    assert scene.server.wait(run_id, state=None).state == "skipped"
    assert 0 < len(scene.sent(promotion)) < USERS
    assert scene.steward() == {}


def test_designated_users_are_those_of_the_launch_and_get_coupons_as_far_as_there_are_some(scene: Scene) -> None:
    promotion = scene.launch(**DESIGNATED, steering={"canary": {"share": 0.1}})
    scene.server.wait(run_of(scene, promotion, Phase.CANARY))
    with scene.shop.database.writing() as connection:  # who moves now does not count
        connection.execute(update(users).values(city="Paris"))
    canaries = scene.sent(promotion).total()
    assert scene.steward() == {}
    scene.handle(promotion, Counts(delivered=canaries), Phase.CANARY)
    assert scene.steward() == {"go_to_rest": 1}
    scene.server.wait(run_of(scene, promotion))
    sent = scene.sent(promotion)
    with scene.shop.database.reading() as connection:
        holders = connection.execute(select(coupon_grants.c.user_id)).scalars().all()
        left = connection.execute(select(coupons.c.remaining)).scalar_one()
    assert sent == once_each(holders)
    assert (len(sent), left) == (700, 0)
    assert all(number % 3 == 0 for number in sent)


def test_an_audience_that_is_nobody_by_the_time_of_the_launch_completes_the_promotion(scene: Scene) -> None:
    promotion = scene.launch(**{**DESIGNATED, "audience": {"field": "city", "among": ["Oslo"]}})
    until(lambda: scene.now(promotion).state is State.COMPLETED)
    assert scene.now(promotion).reason == NOBODY


def test_hot_goods_go_out_every_morning_each_time_as_a_promotion_of_its_own(tmp_path: Path) -> None:
    with a_scene(tmp_path, start=START) as scene:
        with scene.shop.database.writing() as connection:
            goods = [("tea", 5), ("cup", 9), ("pot", 0)]
            rows = [{"id": n, "name": name, "stock": 1, "sold": sold} for n, (name, sold) in enumerate(goods, 1)]
            connection.execute(insert(products), rows)
        first, second = (run for run in scene.server.advance(timedelta(days=2)) if run.job == runs.HOT_GOODS)
        assert first.fire_time == datetime(2026, 12, 1, 1, tzinfo=UTC)
        with scene.shop.database.reading() as connection:
            made = promotions.under_way(connection)
        assert [each.order.message for each in made] == ["Everybody buys cup, tea"] * 2
        assert [scene.sent(each, HOT_GOODS) for each in made] == [once_each(ALL)] * 2
        assert scene.steward() == {}
        for each in made:
            scene.handle(each, Counts(delivered=USERS))
        assert scene.steward() == {"complete": 2}
        assert second.state == "succeeded"


def test_nothing_that_was_sold_is_no_push(scene: Scene) -> None:
    run = scene.server.wait(scene.server.trigger(runs.HOT_GOODS), state="skipped")
    assert scene.server.messages(HOT_GOODS) == []
    assert run.shards


def test_those_that_failed_are_sent_again_and_no_others(scene: Scene) -> None:
    promotion = scene.save()
    scene.move(promotion, Verb.LAUNCH)
    with scene.shop.database.writing() as connection:
        for user_id, resend in [(3, 1), (7, 1), (9, 0)]:
            row = {"promotion_id": promotion.id, "user_id": user_id, "reason": "no", "failed_at_ms": 0}
            connection.execute(insert(failures), {**row, "resend": resend})
        where = {"promotion_id": promotion.id, "phase": resends.phase_of(1)}
        connection.execute(insert(tables.launches), {**where, "event_id": ""})
    scene.server.wait(runs.start_resending(scene.shop, promotion.id, 1))
    again = scene.server.trigger(runs.RESEND, {"promotion_id": promotion.id, "resend": 1})
    scene.server.wait(again, state="skipped")
    assert scene.sent(promotion) == once_each([3, 7])
    assert {each.properties[RESEND] for each in scene.messages(promotion)} == {"1"}


def test_a_run_that_fails_pauses_the_promotion_and_says_what_to_do(scene: Scene) -> None:
    failed = runs.start_sending(scene.shop, 999, Phase.REST)  # of no promotion
    scene.server.wait(failed, state="failed")
    promotion = scene.save(way=Way.SHARDS)
    scene.move(promotion, Verb.LAUNCH)
    with scene.shop.database.writing() as connection:
        promotions.claim_launch(connection, promotion.id, Phase.REST, "event")
        launches.claim_run(connection, promotion.id, Phase.REST, failed)
    assert scene.steward() == {"pause": 1}
    paused = scene.now(promotion)
    assert (paused.state, paused.reason) == (State.PAUSED, f"run {failed} did not succeed: retry it, then resume")


def test_a_run_that_the_admin_forgot_is_done_where_it_was_seen_to_succeed_and_only_there(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, unknown = (scene.launch(way=Way.SHARDS) for _ in range(2))
    for each in (sent, unknown):
        scene.server.wait(run_of(scene, each))
    scene.move(unknown, Verb.PAUSE)
    assert scene.steward() == {}
    scene.move(unknown, Verb.RESUME)
    monkeypatch.setattr(runs, "find", lambda *_: None)
    for each in (sent, unknown):
        scene.handle(each, Counts(delivered=USERS))
    assert scene.steward() == {"complete": 1, "pause": 1}
    assert (scene.now(sent).state, scene.now(unknown).state) == (State.COMPLETED, State.PAUSED)


def steer(scene: Scene, promotion: Promotion, steering: Steering) -> None:
    with scene.shop.database.writing() as connection:
        promotions.steer(connection, promotion.id, steering)


def test_the_channel_is_the_message_s_tag(scene: Scene) -> None:
    promotion = scene.launch(way=Way.SHARDS, inform_type=InformType.MAIL)
    scene.server.wait(run_of(scene, promotion))
    assert {each.tag for each in scene.messages(promotion)} == {"mail"}
