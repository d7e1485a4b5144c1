"""What happens to a promotion while the steward, listeners and operators look at it at the same time."""

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import sqlalchemy as sa
from sqlalchemy import insert

from examples.marketing.app import marketing
from examples.marketing.delivery.failing import keep_failures
from examples.marketing.errors import BadSettings, WrongState
from examples.marketing.fanout import hot_goods, launching
from examples.marketing.fanout.hot_goods import HotGoodsParams, push_hot_goods
from examples.marketing.fanout.launching import launch
from examples.marketing.messages import Counted, Phase
from examples.marketing.promotions.model import Promotion, Way
from examples.marketing.promotions.states import State
from examples.marketing.settings import Admin
from examples.marketing.shop import Shop, lifespan
from examples.marketing.steering import steward as stewarding
from examples.marketing.steering import verbs
from examples.marketing.steering.counting import count
from examples.marketing.steering.judging import Judgement, judge
from examples.marketing.steering.steward import steward
from examples.marketing.store import launches, progress, promotions, resends
from examples.marketing.store.progress import Counts, Source
from examples.marketing.store.tables import failures, products
from examples.marketing.store.tables import promotions as table
from examples.marketing.topics import COUNTED, COUNTED_GROUP, FAILED, PROMOTION_SAVED
from shardcast import Context, Fail, Handled, Message, ShardcastError
from tests.support.marketing import Office, an_office, order, received
from tests.support.promoting import event_of


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with an_office(tmp_path) as office:
        yield office


def all_sent(office: Office, **fields: object) -> Promotion:
    """A promotion for one user, whose message failed."""
    promotion = office.launched(**fields)
    with office.desk.shop.database.writing() as connection:
        promotions.claim_launch(connection, promotion.id, Phase.REST, "event")
        source = Source(promotion.id, Phase.REST, "a queue")
        progress.add(connection, source, range(1), Counts(covered=1, published=1, failed=1))
        row = {"promotion_id": promotion.id, "user_id": 1, "reason": "", "failed_at_ms": 1, "resend": 0}
        connection.execute(insert(failures), row)
    return promotion


def one_round(shop: Shop) -> dict[str, int]:
    return steward(cast(Context, SimpleNamespace(log=logging.getLogger())), shop)


def now(shop: Shop, promotion: Promotion) -> Promotion:
    with shop.database.reading() as connection:
        return promotions.get(connection, promotion.id)


def test_a_promotion_whose_failures_are_taken_while_it_is_judged_is_not_completed(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, promotion = office.desk.shop, all_sent(office)

    def judged_late(*given: object) -> Judgement:
        with shop.database.writing() as connection:
            assert resends.take(connection, promotion.id) == 1
        return judge(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(stewarding, "judge", judged_late)
        assert one_round(shop) == {}
    assert now(shop, promotion).state is State.RUNNING
    with shop.database.writing() as connection:
        progress.add(connection, Source(promotion.id, Phase.REST, "a queue"), range(1, 2), Counts(delivered=1))
    assert one_round(shop) == {"complete": 1}
    assert now(shop, promotion).state is State.COMPLETED


def test_what_failed_of_a_promotion_that_is_over_is_not_sent_again_and_dropped(office: Office) -> None:
    promotion = all_sent(office)
    office.clock.advance(days=31)
    with pytest.raises(WrongState, match="over"):
        verbs.resend(office.desk.shop, promotion.id)
    with office.desk.shop.database.reading() as connection:
        assert [row["resend"] for row in resends.page(connection, promotion.id, None, 9)] == [0]


def test_an_event_that_comes_out_of_the_dead_letters_as_another_message_starts_the_run_that_is_missing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = office.desk.shop
    with shop.database.writing() as connection:
        saved = promotions.save(connection, order(way=Way.SHARDS), save_id="s", now_ms=0)
        connection.execute(sa.update(table).values(first_id=1, last_id=9))
    event = event_of(now(shop, saved))
    first, resent, third = received([event, event, event], topic=PROMOTION_SAVED)

    def refused(*_: object) -> str:
        raise ShardcastError

    monkeypatch.setattr(launching.runs, "start_sending", refused)
    with pytest.raises(ShardcastError):
        launch(first, shop)
    started: list[Phase] = []

    def start(_: Shop, __: int, phase: Phase) -> str:
        started.append(phase)
        return "run-1"

    monkeypatch.setattr(launching.runs, "start_sending", start)
    assert launch(resent, shop) == launch(third, shop) == launch(first, shop) == []
    assert started == [Phase.REST]
    with shop.database.reading() as connection:
        assert launches.run_of(connection, saved.id, Phase.REST) == "run-1"


@pytest.mark.parametrize("body", [b"{", b"{}", b'{"promotion_id": %d, "phase": "rest"}' % 2**64])
def test_numbers_that_are_none_are_given_up_at_once(office: Office, body: bytes) -> None:
    counted = Counted(promotion_id=1, phase=Phase.REST, delivered=1).model_dump_json().encode()
    with pytest.raises(Fail, match="no numbers"):
        count(received([Message(counted), Message(body)], topic=COUNTED), office.desk.shop)
    with office.desk.shop.database.reading() as connection:
        assert progress.of(connection, 1)[Phase.REST] == Counts()


def test_a_reason_that_postgresql_would_refuse_is_written_down_without_what_is_wrong_in_it(office: Office) -> None:
    promotion = office.launched()
    failed = Message(promotion.message.to(1).body, properties={"reason": "400 \0\0binary"})
    keep_failures(received([failed], topic=FAILED), office.desk.shop)
    with office.desk.shop.database.reading() as connection:
        assert [row["reason"] for row in resends.page(connection, promotion.id, None, 9)] == ["400 binary"]


def test_listeners_wait_while_the_database_is_away_and_spend_no_attempt(office: Office) -> None:
    [counting] = [each for each in marketing(lifespan).registry.listeners if each.group == COUNTED_GROUP]
    counted = Counted(promotion_id=1, phase=Phase.REST, delivered=1).model_dump_json().encode()
    messages = received([Message(counted)], topic=COUNTED)
    with closing(office.desk.shop.database.engine.raw_connection()) as database:
        database.cursor().execute("ALTER TABLE progress RENAME TO gone")
        assert counting.call(messages, office.desk.shop) == Handled(0, after=1)
        database.cursor().execute("ALTER TABLE gone RENAME TO progress")
    assert counting.call(messages, office.desk.shop) is None
    with office.desk.shop.database.reading() as connection:
        assert progress.of(connection, 1)[Phase.REST].delivered == 1


def test_what_was_taken_to_be_sent_again_comes_to_its_end_though_the_promotion_is_over_meanwhile(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, promotion = office.desk.shop, all_sent(office)

    def away(*_: object) -> str:
        raise ShardcastError

    with monkeypatch.context() as patched:
        patched.setattr(verbs.runs, "start_resending", away)
        with pytest.raises(ShardcastError):
            verbs.resend(shop, promotion.id)
    office.clock.advance(days=31)
    assert one_round(shop) == {}, "it waits for what was taken"
    started: list[int] = []
    monkeypatch.setattr(verbs.runs, "start_resending", lambda *given: started.append(given[2]) or "run-1")
    verbs.resend(shop, promotion.id)
    assert started == [1]


def test_each_shard_of_hot_goods_sends_what_the_first_one_found(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, sent = office.desk.shop, list[object]()
    monkeypatch.setattr(hot_goods, "publish", lambda *given: sent.append(given[2]))
    context = cast(Context, SimpleNamespace(run_id="a run", raise_if_cancelled=lambda: None))
    with shop.database.writing() as connection:
        connection.execute(insert(products).values(name="tea", stock=1, sold=1))
    push_hot_goods(context, HotGoodsParams(), shop)
    with shop.database.writing() as connection:
        connection.execute(sa.update(products).values(sold=0))  # the only order was cancelled meanwhile
    push_hot_goods(context, HotGoodsParams(), shop)
    assert len(sent) == 2


@pytest.mark.parametrize("content", [None, b"\xff\xfe", "töken".encode(), b"two\nlines"])
def test_a_file_that_holds_no_token_is_told_by_name(office: Office, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    settings = office.desk.shop.settings.model_copy(update={"admin": Admin(token_file=file)})
    with pytest.raises(BadSettings, match=str(file)), replace(office.desk.shop, settings=settings).admin() as admin:
        admin.get("/runs")
