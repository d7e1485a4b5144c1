"""Promotions and their progress on the databases that the system runs on."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import Connection, insert, inspect, select, update

from examples.marketing.errors import NotFound, WrongState
from examples.marketing.messages import InformType, Phase, PromotionType
from examples.marketing.promotions.model import Canary, CouponOrder, PromotionOrder, Steering
from examples.marketing.promotions.states import State, Verb
from examples.marketing.store import progress, promotions
from examples.marketing.store.database import Database
from examples.marketing.store.progress import Counts, Source
from examples.marketing.store.tables import metadata, users
from tests.support.admin_databases import fresh_database
from tests.support.postgresql import running_postgresql

NOW = datetime(2026, 12, 1, 1, tzinfo=UTC)


def order(**fields: object) -> PromotionOrder:
    given = {
        "promotion_type": PromotionType.PLATFORM_PROMOTION,
        "main_message": "Half price",
        "message": "Today only",
        "inform_type": InformType.APP_PUSH,
        "starts_at": NOW,
        "ends_at": NOW + timedelta(days=1),
    }
    return PromotionOrder.model_validate(given | fields)


@pytest.fixture(scope="module")
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_postgresql(tmp_path_factory.mktemp("postgresql"), is_durable=False) as url:
        yield url


@pytest.fixture(scope="module")
def mariadb_url(mariadb_server: str) -> Iterator[str]:
    with fresh_database(mariadb_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    is_sqlite = request.param == "sqlite"
    database = Database(
        f"sqlite:///{tmp_path / 'shop.db'}" if is_sqlite else request.getfixturevalue(f"{request.param}_url")
    )
    metadata.drop_all(database.engine)
    database.create()
    yield database
    database.close()


def test_a_promotion_is_saved_and_changed_until_it_is_launched(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(insert(users), [_user(5), _user(900)])
        first = promotions.save(connection, order(), save_id="a", now_ms=1)
        second = promotions.save(connection, order(message="New"), save_id="b", promotion_id=first.id, now_ms=2)
        launched = promotions.move(connection, first.id, Verb.LAUNCH, reason="", now_ms=3)
    assert (first.version, first.state, first.first_id, first.last_id) == (1, State.SAVED, 5, 900)
    assert (second.id, second.version, second.order.message) == (first.id, 2, "New")
    assert (launched.state, launched.launched_at_ms, launched.resumed_at_ms) == (State.RUNNING, 3, 3)
    with pytest.raises(WrongState), database.writing() as connection:
        promotions.save(connection, order(), save_id="c", promotion_id=first.id, now_ms=4)
    with pytest.raises(NotFound), database.writing() as connection:
        promotions.save(connection, order(), save_id="d", promotion_id=first.id + 1, now_ms=4)


def test_nobody_to_send_to_is_an_empty_range(database: Database) -> None:
    with database.writing() as connection:
        saved = promotions.save(connection, order(), save_id="a", now_ms=1)
    assert saved.last_id < saved.first_id


def test_the_check_back_knows_saves_that_were_committed_and_those_behind_which_others_came(database: Database) -> None:
    with database.writing() as connection:
        first = promotions.save(connection, order(), save_id="a", now_ms=1)
        promotions.save(connection, order(), save_id="b", promotion_id=first.id, now_ms=2)
    with database.reading() as connection:
        assert promotions.was_saved(connection, "b", first.id, 2)
        assert promotions.was_saved(connection, "a", first.id, 1)
        assert not promotions.was_saved(connection, "x", first.id, 2)
        assert not promotions.was_saved(connection, "x", first.id + 1, 1)


def test_what_is_steered_is_read_again_and_what_has_ended_cannot_be(database: Database) -> None:
    with database.writing() as connection:
        saved = promotions.save(connection, order(), save_id="a", now_ms=1)
        steered = promotions.steer(connection, saved.id, Steering(rate=7))
        assert steered.order.steering == promotions.get(connection, saved.id).order.steering == Steering(rate=7)
        promotions.move(connection, saved.id, Verb.CANCEL, reason="wrong text", now_ms=2)
    with pytest.raises(WrongState), database.writing() as connection:
        promotions.steer(connection, saved.id, Steering())


def test_a_coupon_is_saved_with_its_promotion(database: Database) -> None:
    coupon = CouponOrder(name="5 off", value_cents=500, stock=10, expires_at=NOW + timedelta(days=30))
    wanted = order(promotion_type="platform_coupon", coupon=coupon, steering=Steering(canary=Canary(share=0.1)))
    with database.writing() as connection:
        saved = promotions.save(connection, wanted, save_id="a", now_ms=1)
    assert (saved.order, saved.phase) == (wanted, Phase.CANARY)


def test_a_launch_belongs_to_the_event_that_came_first(database: Database) -> None:
    with database.writing() as connection:
        assert promotions.claim_launch(connection, 1, Phase.REST, "first")
        assert promotions.claim_launch(connection, 1, Phase.REST, "first")
        assert not promotions.claim_launch(connection, 1, Phase.REST, "second")
        assert promotions.claim_launch(connection, 1, Phase.CANARY, "second")


def test_a_job_makes_its_promotion_once(database: Database) -> None:
    with database.writing() as connection:
        first = promotions.of_origin(connection, "run-1", order(), now_ms=1)
        assert promotions.of_origin(connection, "run-1", order(), now_ms=2) == first
        assert promotions.of_origin(connection, "run-2", order(), now_ms=2).id != first.id
    assert first.state is State.RUNNING


def test_a_source_counts_each_of_its_entries_once(database: Database) -> None:
    queue, other = (Source(1, Phase.REST, f"send/{number}") for number in (0, 1))
    with database.writing() as connection:
        progress.add(connection, queue, range(10), Counts(delivered=9, failed=1))
        progress.add(connection, queue, range(10), Counts(delivered=9, failed=1))  # the batch came again
        progress.add(connection, queue, range(12, 15), Counts(delivered=3))  # some between were another promotion's
        progress.add(connection, other, range(5), Counts(capped=5, published=2))
        progress.add(connection, Source(2, Phase.REST, "send/0"), range(5), Counts(dropped=5))
        told = progress.of(connection, 1)
    assert told == {Phase.CANARY: Counts(), Phase.REST: Counts(published=2, delivered=12, capped=5, failed=1)}
    assert told[Phase.REST].handled == 18


def _user(number: int) -> dict[str, object]:
    return {"id": number, "name": "x", "city": "Lima", "level": "gold", "age": 30, "spent_90d_cents": 0}


def test_a_transaction_that_the_server_ended_for_others_is_done_again(database: Database) -> None:
    if database.engine.dialect.name == "sqlite":
        pytest.skip("its writers take turns")
    meeting = Barrier(2, timeout=30)
    tries = Counter[int]()

    def cross(first: int) -> None:
        def change(connection: Connection) -> None:
            tries[first] += 1
            for step, user_id in enumerate((first, 3 - first)):
                connection.execute(update(users).where(users.c.id == user_id).values(age=users.c.age + 1))
                if step == 0 and tries[first] == 1:
                    meeting.wait()  # each holds what the other one wants

        database.apply(change)

    with database.writing() as connection:
        connection.execute(insert(users), [_user(1), _user(2)])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(cross, (1, 2)))
    with database.reading() as connection:
        assert connection.execute(select(users.c.age)).scalars().all() == [32, 32]
    assert tries.total() > 2  # the one that is done again may meet the other one again


def test_processes_that_start_at_once_make_the_tables_together(database: Database) -> None:
    metadata.drop_all(database.engine)
    url = database.engine.url.render_as_string(hide_password=False)
    meet = Barrier(4)

    def started(_: int) -> None:
        own = Database(url)
        try:
            meet.wait(20)
            own.create()
        finally:
            own.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(started, range(4)))
    assert {*inspect(database.engine).get_table_names()} == {*metadata.tables}


def test_keys_of_requests_differ_by_case(database: Database) -> None:
    with database.writing() as connection:
        saved = [
            promotions.keep(connection, promotions.draft(connection, str(ord(key)), None), order(), key=key, now_ms=1)
            for key in ("a", "A")
        ]
        assert [promotions.of_request(connection, key, order()) for key in ("a", "A")] == saved
