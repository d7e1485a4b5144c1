"""The push consumer as a listener on a real broker: counts, failures and other tries through their topics."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import select

from examples.marketing import app as apps
from examples.marketing.messages import Phase
from examples.marketing.promotions.model import Promotion
from examples.marketing.promotions.states import Verb
from examples.marketing.settings import FILE_VARIABLE
from examples.marketing.store import progress
from examples.marketing.store.progress import Counts
from examples.marketing.store.tables import failures
from examples.marketing.topics import COUNTED_GROUP, DELIVERY_GROUP, FAILED, FAILED_GROUP, PARKED, SEND
from shardcast import Message, Producer
from shardcast.testing import TestServer
from tests.support.demo_process import wait_for
from tests.support.fake_provider import BROKEN, FakeProvider, running_provider
from tests.support.marketing import SECRET, Office, an_office

GROUPS = (DELIVERY_GROUP, COUNTED_GROUP, FAILED_GROUP)


class Shop:
    """Executors of the system on a test server, and the same database beside them."""

    def __init__(self, server: TestServer, office: Office) -> None:
        self.server = server
        self.office = office

    def publish(self, *messages: Message) -> None:
        with Producer(self.server.broker, token=self.server.token) as producer:
            producer.publish_batch(SEND, list(messages))

    def move(self, promotion: Promotion, verb: Verb) -> None:
        self.office.move(promotion, verb)

    def read_all(self) -> None:
        for group in GROUPS:
            self.server.wait_read(group)

    def counted(self, promotion: Promotion) -> Counts:
        with self.office.desk.shop.database.reading() as connection:
            return progress.of(connection, promotion.id)[Phase.REST]

    def failed(self) -> list[tuple[int, str]]:
        with self.office.desk.shop.database.reading() as connection:
            rows = connection.execute(select(failures.c.user_id, failures.c.reason).order_by(failures.c.user_id))
            return [(row[0], row[1]) for row in rows]


@contextmanager
def a_shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, delivers: bool = True, **fields: object
) -> Iterator[Shop]:
    recording = {"directory": str(tmp_path / "deliveries")}
    (tmp_path / "secret").write_bytes(SECRET)
    settings = {
        "database": f"sqlite:///{tmp_path / 'shop.db'}",
        **dict.fromkeys(("app_push", "sms", "mail"), recording),
    }
    (tmp_path / "marketing.yaml").write_text(yaml.safe_dump({**settings, **fields}))
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "marketing.yaml"))
    with TestServer() as server, an_office(tmp_path) as office:
        office.clock.now = server.now
        server.start_executor(apps.app)
        if delivers:
            server.start_executor(apps.delivery)
        yield Shop(server, office)


def until(what: str, is_so: Callable[[], bool]) -> None:
    wait_for(what, lambda: is_so() or None)


def test_what_is_published_is_delivered_counted_or_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_shop(tmp_path, monkeypatch) as shop:
        promotion = shop.office.launched()
        shop.publish(*map(promotion.message.to, range(3_000)), Message(b"{", key="x"))
        shop.read_all()
        until("counts", lambda: shop.counted(promotion) == Counts(delivered=3_000))
        [malformed] = shop.server.messages(FAILED)
        assert (malformed.body, "JSON" in malformed.properties["reason"]) == (b"{", True)
        assert sorted(shop.office.recorded()) == list(range(3_000))


def test_a_pause_holds_messages_back_and_a_cancel_drops_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_shop(tmp_path, monkeypatch) as shop:
        paused, other = shop.office.launched(), shop.office.launched()
        shop.move(paused, Verb.PAUSE)
        shop.publish(*map(paused.message.to, range(100)))
        shop.publish(*map(other.message.to, range(100, 200)))
        until("counts", lambda: shop.counted(other) == Counts(delivered=100))
        until("parked messages", lambda: len(shop.server.messages(PARKED)) >= 100)
        shop.move(paused, Verb.CANCEL)
        shop.server.advance(timedelta(seconds=60))
        until("counts", lambda: shop.counted(paused) == Counts(dropped=100))
        assert sorted(shop.office.recorded()) == list(range(100, 200))


def test_a_provider_that_fails_is_asked_again_and_what_it_rejects_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_provider(SECRET, time.time()) as provider:
        http = {"kind": "http", "url": provider.url, "secret_file": str(tmp_path / "secret")}
        with a_shop(tmp_path, monkeypatch, app_push=http) as shop:
            promotion = shop.office.launched()
            provider.script.append(BROKEN)
            provider.rejects = {7}
            shop.publish(*map(promotion.message.to, range(50)))
            until("calls", lambda: has_had_its_turn(shop, provider))
            shop.server.advance(timedelta(seconds=11))
            until("counts", lambda: shop.counted(promotion) == Counts(delivered=49, failed=1))
            until("failures", lambda: shop.failed() == [(7, "no such device")])
        assert provider.accepted == {f"{promotion.id}:{user}": 1 for user in range(50) if user != 7}


def has_had_its_turn(shop: Shop, provider: FakeProvider) -> bool:
    """Every message was asked for, by then."""
    shop.server.wait_read(DELIVERY_GROUP)
    return {user for call in provider.calls for user in call} == set(range(50))


@pytest.mark.proof
def test_counts_are_exact_though_deliverers_are_killed_while_they_deliver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, of_each, of_paused = 3, 30_000, 300
    with a_shop(tmp_path, monkeypatch, delivers=False) as shop:
        server = shop.server
        promotion, paused = shop.office.launched(), shop.office.launched()
        shop.move(paused, Verb.PAUSE)
        deliverers = [server.start_process("examples.marketing.app:delivery") for _ in range(2)]
        for number in range(rounds):
            seen = len(shop.office.recorded())
            for first in range(number * of_each, (number + 1) * of_each, 1_000):
                shop.publish(*map(promotion.message.to, range(first, first + 1_000)))
                shop.publish(*map(paused.message.to, range(first, first + of_paused * 1_000 // of_each)))
            wait_for("deliveries", lambda seen=seen: len(shop.office.recorded()) > seen or None)  # type: ignore[misc]
            deliverers[number % 2].process.kill()
            deliverers[number % 2] = server.start_process("examples.marketing.app:delivery")
        shop.move(paused, Verb.RESUME)
        server.advance(timedelta(seconds=60))
        count, others = rounds * of_each, rounds * of_paused
        until("counts", lambda: shop.counted(promotion).handled >= count and shop.counted(paused).handled >= others)
        shop.read_all()
        assert shop.counted(promotion) == Counts(delivered=count)
        assert shop.counted(paused) == Counts(delivered=others)
        assert set(shop.office.recorded()) == set(range(count))
