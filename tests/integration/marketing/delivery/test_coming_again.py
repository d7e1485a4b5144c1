"""Batches that come again because nobody heard what came of them, and what must not be lost or sent again then."""

from datetime import timedelta
from pathlib import Path

import pytest

from examples.marketing.delivery.decisions import LEAST_DEFERRAL
from examples.marketing.delivery.providers.breaker import MOST_FAILURES
from examples.marketing.messages import Phase
from examples.marketing.promotions.model import FrequencyCap, Steering
from examples.marketing.promotions.states import Verb
from examples.marketing.topics import FAILED, PARKED, SEND
from shardcast import Message
from tests.support.fake_provider import running_provider
from tests.support.marketing import NOW, SECRET, an_office

REST = Phase.REST
CAPPED = Steering(cap=FrequencyCap(most=1, hours=24))


@pytest.mark.parametrize("once", [True, False])
def test_what_a_provider_did_not_take_is_not_taken_for_delivered_when_it_comes_again(
    tmp_path: Path, once: bool
) -> None:
    with running_provider(SECRET, NOW.timestamp()) as provider, an_office(tmp_path, provider.url, once=once) as office:
        provider.rejects, provider.postpones = {3}, {5: 0}
        promotion = office.launched()
        messages = [promotion.message.to(user) for user in range(1, 6)]
        first = office.deliver(messages)  # whose process dies before that is known
        again = office.deliver(messages)
        for done in (first, again):
            assert done.counts == {(promotion.id, REST): {"delivered": 3, "failed": 1}}
            assert (done.users(FAILED), done.users(SEND)) == ([3], [5])
        assert provider.accepted == {f"{promotion.id}:{user}": 1 for user in (1, 2, 4)}


@pytest.mark.parametrize("once", [True, False])
def test_a_user_is_allowed_a_message_once_however_often_it_comes(tmp_path: Path, once: bool) -> None:
    with an_office(tmp_path, once=once) as office:
        first, second = office.launched(steering=CAPPED), office.launched(steering=CAPPED)
        messages = [first.message.to(user) for user in (1, 2)]
        for _ in range(2):
            assert office.deliver(messages).counts == {(first.id, REST): {"delivered": 2}}
        others = [second.message.to(user) for user in (1, 2, 3)]
        for _ in range(2):
            assert office.deliver(others).counts == {(second.id, REST): {"delivered": 1, "capped": 2}}


def test_messages_of_a_promotion_that_is_asked_for_elsewhere_wait(tmp_path: Path) -> None:
    with an_office(tmp_path) as office:
        promotion = office.launched(steering=CAPPED)
        with office.desk.shop.limits.once_all([f"cap:{promotion.id}:1:"], window=timedelta(hours=24)):
            assert office.deliver([promotion.message.to(1), promotion.message.to(2)]).handled.count == 0
        done = office.deliver([promotion.message.to(1), promotion.message.to(2)])
        assert done.counts == {(promotion.id, REST): {"delivered": 2}}


def test_a_message_with_as_many_properties_as_the_broker_takes_fails_alone(tmp_path: Path) -> None:
    with an_office(tmp_path) as office:
        promotion = office.launched()
        full = Message(b"{", properties={"phase": "canary", "x": "y" * (32_768 - 13)})
        done = office.deliver([full, promotion.message.to(1)])
        [failed] = done.to(FAILED)
        assert set(failed.properties) == {"phase", "reason"}
        assert (failed.body, done.counts) == (b"{", {(promotion.id, REST): {"delivered": 1}})


def test_what_waits_for_its_provider_alone_is_not_parked_behind_what_rests(tmp_path: Path) -> None:
    with running_provider(SECRET, NOW.timestamp()) as provider, an_office(tmp_path, provider.url) as office:
        resting, running = office.launched(), office.launched()
        office.move(resting, Verb.PAUSE)
        provider.stop()
        for user in range(MOST_FAILURES):
            office.deliver([running.message.to(user)])
        done = office.deliver([resting.message.to(1), running.message.to(2)])
        assert (done.users(PARKED), done.users(SEND)) == ([1], [2])
        assert done.to(SEND)[0].deliver_at == office.clock() + LEAST_DEFERRAL
