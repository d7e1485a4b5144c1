"""The push consumer and a provider over real HTTP that fails in every way."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from examples.marketing.delivery.ledger import STEPS
from examples.marketing.delivery.providers.breaker import MOST_FAILURES, REST
from examples.marketing.delivery.providers.http import LONGEST_WAIT
from examples.marketing.errors import BadSettings
from examples.marketing.messages import InformType, Phase
from examples.marketing.promotions.model import Promotion
from examples.marketing.topics import FAILED, SEND
from shardcast import Message
from tests.support.fake_provider import BROKEN, RESET, RESET_BEHIND, SILENT, Answer, FakeProvider, running_provider
from tests.support.marketing import NOW, SECRET, Office, an_office

BATCH = 10  # as the office's settings say


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with running_provider(SECRET, NOW.timestamp()) as provider:
        yield provider


@contextmanager
def asking(provider: FakeProvider, tmp_path: Path, **fields: object) -> Iterator[tuple[Office, Promotion]]:
    with an_office(tmp_path, provider.url, **fields) as office:
        yield office, office.launched()


def to(promotion: Promotion, users: Sequence[int]) -> list[Message]:
    return [promotion.message.to(user) for user in users]


def delivered(promotion: Promotion, count: int) -> dict[tuple[int, Phase], dict[str, int]]:
    return {(promotion.id, Phase.REST): {"delivered": count}}


def test_a_batch_goes_in_signed_calls_each_with_the_message_once(provider: FakeProvider, tmp_path: Path) -> None:
    with asking(provider, tmp_path) as (office, promotion):
        assert office.deliver(to(promotion, range(25))).counts == delivered(promotion, 25)
    assert sorted(map(len, provider.calls)) == [5, 10, 10]
    assert provider.accepted == {f"{promotion.id}:{user}": 1 for user in range(25)}
    assert provider.messages[0] == promotion.message.model_dump(mode="json")


def test_what_the_provider_rejects_fails_and_what_it_postpones_comes_again(
    provider: FakeProvider, tmp_path: Path
) -> None:
    provider.rejects, provider.postpones = {3}, {5: 0, 7: 90}
    with asking(provider, tmp_path) as (office, promotion):
        done = office.deliver(to(promotion, range(1, 13)))
    assert done.counts == {(promotion.id, Phase.REST): {"delivered": 9, "failed": 1}}
    [failed] = done.to(FAILED)
    assert (done.users(FAILED), failed.properties["reason"]) == ([3], "no such device")
    waits = [each.deliver_at - office.clock() for each in done.to(SEND) if each.deliver_at]
    assert (done.users(SEND), waits) == ([5, 7], [STEPS[0], timedelta(seconds=90)])
    assert [each.properties["tries"] for each in done.to(SEND)] == ["1", "1"]


def test_a_provider_that_says_more_than_is_kept_is_understood_all_the_same(
    provider: FakeProvider, tmp_path: Path
) -> None:
    provider.reason, provider.rejects, provider.postpones = "x" * 10_000, {3}, {5: 1e9}
    with asking(provider, tmp_path) as (office, promotion):
        done = office.deliver(to(promotion, [1, 3, 5]))
        [failed], [later] = done.to(FAILED), done.to(SEND)
        assert (done.users(FAILED), failed.properties["reason"]) == ([3], "x" * 500)
        assert (done.users(SEND), later.deliver_at) == ([5], office.clock() + LONGEST_WAIT)


def test_a_provider_that_gives_no_reason_is_understood(provider: FakeProvider, tmp_path: Path) -> None:
    provider.reason, provider.rejects = None, {3}
    with asking(provider, tmp_path) as (office, promotion):
        done = office.deliver(to(promotion, [1, 3]))
        assert (done.users(SEND), done.users(FAILED)) == ([], [3])


@pytest.mark.parametrize(
    ("status", "retry_after", "wait"),
    [
        (429, {"Retry-After": "120"}, timedelta(seconds=120)),
        (503, {"Retry-After": "120"}, timedelta(seconds=120)),
        (429, {"Retry-After": "Tue, 01 Dec 2026 01:03:01 GMT"}, timedelta(minutes=3)),  # it is 1 s past one
        (429, {"Retry-After": "1"}, STEPS[0]),
        (429, {}, STEPS[0]),
    ],
)
def test_what_a_provider_has_no_time_for_comes_again_when_it_says(
    provider: FakeProvider, tmp_path: Path, status: int, retry_after: dict[str, str], wait: timedelta
) -> None:
    provider.script.append(Answer(status, retry_after))
    with asking(provider, tmp_path) as (office, promotion):
        done = office.deliver(to(promotion, [1, 2]))
        [later, _] = done.to(SEND)
        assert (done.users(SEND), done.counts, later.deliver_at) == ([1, 2], {}, office.clock() + wait)
        office.clock.now = later.deliver_at
        assert office.deliver(done.to(SEND)).counts == delivered(promotion, 2)
    assert provider.accepted == {f"{promotion.id}:{user}": 1 for user in (1, 2)}


def test_until_the_time_that_it_said_nobody_asks_it(provider: FakeProvider, tmp_path: Path) -> None:
    provider.script.append(Answer(429, {"Retry-After": "60"}))
    with asking(provider, tmp_path) as (office, promotion):
        office.deliver(to(promotion, [1]))
        waiting = office.deliver(to(promotion, [2]))
        assert (waiting.handled.count, waiting.messages, len(provider.calls)) == (0, [], 1)
        office.clock.advance(seconds=60)
        assert office.deliver(to(promotion, [2])).counts == delivered(promotion, 1)


@pytest.mark.parametrize("answer", [BROKEN, Answer(503), RESET, RESET_BEHIND, Answer(408)])
def test_what_got_no_answer_is_tried_again_and_accepted_once(
    provider: FakeProvider, tmp_path: Path, answer: Answer
) -> None:
    provider.script.append(answer)
    with asking(provider, tmp_path) as (office, promotion):
        done = office.deliver(to(promotion, [1, 2]))
        assert (done.users(SEND), done.counts) == ([1, 2], {})
        assert office.deliver(done.to(SEND)).counts == delivered(promotion, 2)
    assert provider.accepted == {f"{promotion.id}:{user}": 1 for user in (1, 2)}
    assert set(provider.repeated) == (set(provider.accepted) if answer.takes else set())


def test_a_provider_that_says_nothing_is_not_waited_for(provider: FakeProvider, tmp_path: Path) -> None:
    provider.script.append(SILENT)
    secret = tmp_path / "secret"
    impatient = {"kind": "http", "url": provider.url, "secret_file": str(secret), "timeout_seconds": 0.1}
    with asking(provider, tmp_path, app_push=impatient) as (office, promotion):
        done = office.deliver(to(promotion, [1]))
        provider.released.set()
        assert (done.users(SEND), done.counts) == ([1], {})
        assert office.deliver(done.to(SEND)).counts == delivered(promotion, 1)


@pytest.mark.parametrize(("status", "topic"), [(200, SEND), (503, SEND), (400, FAILED)])
def test_an_answer_that_drips_is_waited_for_as_long_as_any(
    provider: FakeProvider, tmp_path: Path, status: int, topic: str
) -> None:
    provider.script.append(Answer(status, blanks=60, blanks_a_second=20))
    secret = tmp_path / "secret"
    impatient = {"kind": "http", "url": provider.url, "secret_file": str(secret), "timeout_seconds": 0.3}
    with asking(provider, tmp_path, app_push=impatient) as (office, promotion):
        done = office.deliver(to(promotion, [1]))
    assert done.users(topic) == [1]
    assert provider.blanks < 30


@pytest.mark.parametrize(("status", "topic"), [(200, SEND), (503, SEND), (400, FAILED)])
def test_an_answer_without_end_is_not_read_to_its_end(
    provider: FakeProvider, tmp_path: Path, status: int, topic: str
) -> None:
    most = 1 << 30
    provider.script.append(Answer(status, blanks=most))
    with asking(provider, tmp_path) as (office, promotion):
        done = office.deliver(to(promotion, [1]))
    assert done.users(topic) == [1]
    assert provider.blanks < most / 10


@pytest.mark.parametrize("status", [400, 404, 422, 302])
def test_what_is_refused_as_a_whole_fails(provider: FakeProvider, tmp_path: Path, status: int) -> None:
    provider.script.append(Answer(status))
    with asking(provider, tmp_path) as (office, promotion):
        done = office.deliver(to(promotion, [1]))
    [failed] = done.to(FAILED)
    assert failed.properties["reason"] == f"the provider answered {status} as told"
    assert done.counts == {(promotion.id, Phase.REST): {"failed": 1}}


def test_a_wrong_secret_is_seen_by_the_provider(provider: FakeProvider, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"guessed")
    settings = {"kind": "http", "url": provider.url, "secret_file": str(wrong)}
    with asking(provider, tmp_path, app_push=settings) as (office, promotion):
        [failed] = office.deliver(to(promotion, [1])).to(FAILED)
    assert failed.properties["reason"] == "the provider answered 401 bad signature"
    assert not provider.accepted


@pytest.mark.parametrize("content", [None, b" \n"])
def test_without_a_secret_there_is_no_provider(tmp_path: Path, content: bytes | None) -> None:
    secret = tmp_path / "none"
    if content is not None:
        secret.write_bytes(content)
    settings = {"kind": "http", "url": "http://127.0.0.1:1", "secret_file": str(secret)}
    with pytest.raises(BadSettings, match="none"), an_office(tmp_path, sms=settings):
        pass


def test_a_provider_that_is_down_is_left_alone_and_nothing_is_lost_or_accepted_twice(
    provider: FakeProvider, tmp_path: Path
) -> None:
    with asking(provider, tmp_path) as (office, promotion):
        waiting = to(promotion, range(100))
        provider.stop()
        again: list[Message] = []
        for first in range(0, 100, BATCH):
            done = office.deliver(waiting[first : first + BATCH])
            if not done.handled.count:
                break
            again += done.to(SEND)
        assert len(again) == MOST_FAILURES * BATCH, "then the breaker opened"
        provider.start()
        assert office.deliver(waiting[first:]).handled.count == 0
        assert not provider.calls
        office.clock.now += REST
        done = office.deliver(waiting[first : first + BATCH])  # the call that shows that it is back
        assert done.counts == delivered(promotion, BATCH)
        assert office.deliver([*waiting[first + BATCH :], *again]).counts == delivered(promotion, 100 - BATCH)
    assert provider.accepted == {f"{promotion.id}:{user}": 1 for user in range(100)}


def test_a_provider_that_is_down_does_not_hold_up_other_channels(provider: FakeProvider, tmp_path: Path) -> None:
    with asking(provider, tmp_path) as (office, promotion):
        by_sms = office.launched(inform_type=InformType.SMS)
        provider.stop()
        for user in range(MOST_FAILURES):
            office.deliver(to(promotion, [user]))
        done = office.deliver([*to(promotion, [7]), by_sms.message.to(8)])
    [aside] = done.to(SEND)
    assert (done.users(SEND), aside.deliver_at, dict(aside.properties)) == ([7], office.clock() + STEPS[0], {})
    assert done.counts == delivered(by_sms, 1)


def test_calls_that_find_the_breaker_open_come_again(provider: FakeProvider, tmp_path: Path) -> None:
    provider.script += [BROKEN] * 20
    with asking(provider, tmp_path) as (office, promotion):
        done = office.deliver(to(promotion, range(20 * BATCH)))
        assert sorted(done.users(SEND)) == list(range(20 * BATCH))
        tried = [int(each.key.split(":")[1]) for each in done.to(SEND) if each.key and "tries" in each.properties]
    assert sorted(tried) == sorted(user for call in provider.calls for user in call), "the others cost them no try"
    assert MOST_FAILURES <= len(provider.calls) <= MOST_FAILURES + 1  # one may have been under way


def test_an_answer_that_makes_no_sense_is_no_answer(provider: FakeProvider, tmp_path: Path) -> None:
    provider.script.append(Answer(201))
    with asking(provider, tmp_path) as (office, promotion):
        done = office.deliver(to(promotion, [1]))
    assert (done.users(SEND), done.counts) == ([1], {})
