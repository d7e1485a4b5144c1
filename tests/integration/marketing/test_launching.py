"""The launch as a function: what it does when it is called again, and while the admin is away."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import TextClause, func, insert, select, text

from examples.marketing.fanout import launching
from examples.marketing.fanout.launching import ASK_AGAIN, LONGEST_DELAY, launch
from examples.marketing.messages import Phase
from examples.marketing.promotions.model import Promotion, Way
from examples.marketing.promotions.states import State, Verb
from examples.marketing.settings import Admin, Settings
from examples.marketing.shop import Shop, opened
from examples.marketing.store import launches, progress, promotions, tables
from examples.marketing.store import users as users_of
from examples.marketing.store.database import Database
from examples.marketing.store.progress import Counts, Source
from examples.marketing.topics import PROMOTION_SAVED, USER_BUCKETS
from shardcast import Fail, Message, ReceivedMessage
from tests.support.postgresql import running_postgresql
from tests.support.promoting import START, a_user, an_order, event_of, until


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    away = Admin(server="http://127.0.0.1:9")
    with opened(Settings(database=f"sqlite:///{tmp_path / 'shop.db'}", admin=away), lambda: START) as shop:
        with shop.database.writing() as connection:
            connection.execute(insert(tables.users), [a_user(number) for number in range(1, 2_501)])
        yield shop


def saved(shop: Shop, **fields: object) -> Promotion:
    with shop.database.writing() as connection:
        return promotions.save(connection, an_order(START, **fields), save_id=str(fields), now_ms=0)


def received(message: Message, offset: int = 0) -> ReceivedMessage:
    return ReceivedMessage(
        message.body,
        message.key,
        topic=PROMOTION_SAVED,
        queue=0,
        offset=offset,
        published_at_ms=0,
        log_id="0" * 32,
        topic_id=1,
    )


def now(shop: Shop, promotion: Promotion) -> Promotion:
    with shop.database.reading() as connection:
        return promotions.get(connection, promotion.id)


def test_the_same_event_leads_to_the_same_buckets_each_time_and_another_one_to_none(shop: Shop) -> None:
    event = event_of(saved(shop))
    first = launch(received(event), shop)
    assert isinstance(first, list)
    assert [each.topic for each in first] == [USER_BUCKETS] * 3
    assert launch(received(event), shop) == first
    assert launch(received(event, offset=1), shop) == []


def test_a_launch_waits_for_an_admin_that_is_away_and_holds_up_no_other(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those by buckets need no admin, and stand behind it in its queue."""
    promotion = saved(shop, way=Way.SHARDS)
    event = event_of(promotion)
    again = launch(received(event), shop)
    assert again == launch(received(event), shop) == replace(event, topic=PROMOTION_SAVED, deliver_at=START + ASK_AGAIN)
    assert now(shop, promotion).state is State.RUNNING
    monkeypatch.setattr(launching.runs, "start_sending", lambda *_: "run-1")
    assert launch(received(again, offset=9), shop) == []
    with shop.database.reading() as connection:
        assert launches.run_of(connection, promotion.id, Phase.REST) == "run-1"


def test_what_is_cancelled_before_its_launch_is_not_launched(shop: Shop) -> None:
    promotion = saved(shop)
    with shop.database.writing() as connection:
        promotions.move(connection, promotion.id, Verb.CANCEL, reason="", now_ms=0)
    assert launch(received(event_of(promotion)), shop) == []


def test_the_canaries_event_launches_nothing_once_the_rest_is_under_way(shop: Shop) -> None:
    promotion = saved(shop, steering={"canary": {"share": 0.5}})
    launch(received(event_of(promotion)), shop)
    with shop.database.writing() as connection:
        promotions.go_to_rest(connection, promotion.id)
    assert launch(received(event_of(promotion)), shop) == []
    assert launch(received(event_of(promotion, Phase.REST), offset=7), shop) != []


@pytest.mark.parametrize("days", [1, 6, 8, 29])
def test_it_comes_again_at_its_time_or_as_late_as_the_broker_allows(shop: Shop, days: int) -> None:
    promotion = saved(shop, send_at=START + timedelta(days=days))
    event = event_of(promotion)
    again = launch(received(event), shop)
    assert isinstance(again, Message)
    assert (again.body, again.key, again.topic) == (event.body, event.key, PROMOTION_SAVED)
    assert again.deliver_at == START + min(timedelta(days=days), LONGEST_DELAY)
    assert now(shop, promotion).state is State.SAVED


@pytest.mark.parametrize(("verb", "started"), [(Verb.CANCEL, []), (Verb.PAUSE, [Phase.REST])])
def test_one_for_nobody_that_is_stopped_while_this_is_found_out_holds_up_no_other(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, verb: Verb, started: list[Phase]
) -> None:
    """What raises is tried again for hours, and what stands behind it in its queue waits."""
    in_oslo = {"field": "city", "among": ["Oslo"]}
    coupon = {"name": "5 off", "value_cents": 1, "stock": 1, "expires_at": START + timedelta(days=9)}
    promotion = saved(shop, promotion_type="designated_coupon", audience=in_oslo, coupon=coupon)
    freeze, runs = launching.audience.freeze, list[Phase]()

    def frozen(*given: object) -> int:
        size = freeze(*given)  # type: ignore[arg-type]
        with shop.database.writing() as connection:
            promotions.move(connection, promotion.id, verb, reason="", now_ms=0)
        return size

    monkeypatch.setattr(launching.audience, "freeze", frozen)
    monkeypatch.setattr(launching.runs, "start_sending", lambda *given: runs.append(given[2]) or "run-1")
    assert launch(received(event_of(promotion)), shop) == []
    assert runs == started


def test_an_event_of_no_promotion_is_given_up(shop: Shop) -> None:
    promotion = saved(shop)
    with pytest.raises(Fail, match="no promotion"):
        launch(received(Message(event_of(promotion).body.replace(b'"promotion_id":1', b'"promotion_id":77'))), shop)


@pytest.fixture(scope="module")
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_postgresql(tmp_path_factory.mktemp("postgresql"), is_durable=False) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    is_sqlite = request.param == "sqlite"
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}" if is_sqlite else request.getfixturevalue("postgresql_url"))
    tables.metadata.drop_all(database.engine)
    database.create()
    yield database
    database.close()


def until_somebody_waits(database: Database) -> None:
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    until(lambda: _asked(database, waiting))


def _asked(database: Database, question: TextClause) -> int:
    with database.reading() as connection:
        return int(connection.execute(question).scalar_one())


def test_an_event_launches_nothing_that_is_saved_anew_at_the_same_time(postgresql_url: str) -> None:
    with opened(Settings(database=postgresql_url), lambda: START) as shop, ThreadPoolExecutor(1) as pool:
        database = shop.database
        tables.metadata.drop_all(database.engine)
        database.create()
        with database.writing() as connection:
            connection.execute(insert(tables.users), [a_user(1)])
        first = saved(shop)
        later = an_order(START, send_at=START + timedelta(days=1))
        with database.writing() as connection:
            drafted = promotions.draft(connection, "second", first.id)
            promotions.keep(connection, drafted, later, now_ms=0)
            launching = pool.submit(launch, received(event_of(first)), shop)
            until_somebody_waits(database)
        assert launching.result() == []
        assert now(shop, first).state is State.SAVED


def test_shards_that_begin_at_once_make_one_promotion_of_their_run(database: Database) -> None:
    order = an_order(START)

    def make(_: int) -> int:
        with database.writing() as connection:
            made = promotions.of_origin(connection, "run-1", order, now_ms=0)
            assert promotions.claim_launch(connection, made.id, Phase.REST, "run-1")
            launches.claim_run(connection, made.id, Phase.REST, "run-1")
            return made.id

    with ThreadPoolExecutor(8) as pool:
        (made,) = set(pool.map(make, range(8)))
    with database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(tables.promotions)).scalar_one() == 1
        assert launches.run_of(connection, made, Phase.REST) == "run-1"


def test_what_a_run_has_published_replaces_what_was_known_and_never_falls(database: Database) -> None:
    source = Source(1, Phase.REST, "run/a")
    with database.writing() as connection:
        for published in (0, 5, 3, 5, 9):
            progress.set_published(connection, source, published)
        progress.add(connection, Source(1, Phase.REST, "delivery"), range(2), Counts(delivered=2))
        assert progress.of(connection, 1)[Phase.REST] == Counts(published=9, delivered=2)


def test_users_of_a_range_are_read_by_rising_id_and_its_ends_found(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(insert(tables.users), [a_user(number) for number in (-4, 3, 9, 2**61)])
        assert users_of.ids_between(connection, -4, 9) == [-4, 3, 9]
        assert users_of.extent(connection, -3, 2**62) == (3, 2**61)
        assert users_of.extent(connection, 10, 2**60) is None
