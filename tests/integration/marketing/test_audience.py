"""Audiences on the databases that the system runs on."""

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sqlalchemy import delete, event, insert, select, update

from examples.marketing.errors import NotFound
from examples.marketing.messages import InformType, PromotionType
from examples.marketing.personas import audience
from examples.marketing.personas.conditions import (
    AllOf,
    Among,
    AnyOf,
    Condition,
    LastOrder,
    NotOf,
    Span,
    Tags,
)
from examples.marketing.promotions.model import PromotionOrder
from examples.marketing.store import promotions
from examples.marketing.store.database import Database
from examples.marketing.store.tables import audience_members, metadata, user_tags, users
from tests.support.admin_databases import fresh_database

NOW = datetime(2026, 12, 1, 0, 30, tzinfo=UTC)
CITIES, LEVELS, TAGS = ("Rome", "Oslo", "rome"), ("gold", "silver"), ("a", "b", "c")
DAYS = (None, 0, 1, 2, 30, 31)


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path_factory.mktemp('shop') / 'shop.db'}")
        database.create()
        yield database
        database.close()
    else:
        with fresh_database(request.getfixturevalue(f"{request.param}_server")) as url:
            database = Database(url)
            database.create()
            yield database
            database.close()


@pytest.fixture
def empty(database: Database) -> Database:
    with database.writing() as connection:
        for table in metadata.sorted_tables:
            connection.execute(delete(table))
    return database


def person(number: int, **fields: object) -> dict[str, object]:
    return {
        "id": number,
        "name": f"user {number}",
        "city": "Rome",
        "level": "gold",
        "age": 30,
        "last_order_on": None,
        "spent_90d_cents": 0,
    } | fields


def one_of_each() -> Iterator[tuple[dict[str, object], set[str]]]:
    """People who differ in everything that conditions ask for."""
    for number in range(96):
        days = DAYS[number % len(DAYS)]
        ordered = None if days is None else NOW.date() - timedelta(days=days)
        yield (
            person(
                number,
                city=CITIES[number % 3],
                level=LEVELS[number // 3 % 2],
                age=17 + number // 7 % 4,
                last_order_on=ordered,
                spent_90d_cents=number % 5 * 100,
            ),
            {tag for place, tag in enumerate(TAGS) if number >> place & 1},
        )


@pytest.fixture(scope="module")
def crowd(database: Database) -> Database:
    with database.writing() as connection:
        for table in metadata.sorted_tables:
            connection.execute(delete(table))
        connection.execute(insert(users), [row for row, _ in one_of_each()])
        tags = [{"user_id": row["id"], "tag": tag} for row, own in one_of_each() for tag in own]
        connection.execute(insert(user_tags), tags)
    return database


def span(field: str, values: st.SearchStrategy[int]) -> st.SearchStrategy[Condition]:
    pairs = st.tuples(st.none() | values, st.none() | values)
    fitting = pairs.filter(lambda pair: pair != (None, None) and (None in pair or pair[0] <= pair[1]))
    return fitting.map(lambda pair: Span.model_validate({"field": field, "least": pair[0], "most": pair[1]}))


def among(field: str, values: tuple[str, ...]) -> st.SearchStrategy[Condition]:
    lists = st.lists(st.sampled_from((*values, "'; --")), min_size=1, max_size=3)
    return lists.map(lambda chosen: Among.model_validate({"field": field, "among": chosen}))


def tagged() -> st.SearchStrategy[Condition]:
    lists = st.lists(st.sampled_from((*TAGS, "unknown")), min_size=1, max_size=4)
    return st.tuples(st.sampled_from(("any_of", "all_of")), lists).map(
        lambda pair: Tags.model_validate({"field": "tags", pair[0]: pair[1]})
    )


def ordered() -> st.SearchStrategy[Condition]:
    times = st.sampled_from([timedelta(days=1), timedelta(days=2), timedelta(hours=1), timedelta(days=30, minutes=31)])
    return st.tuples(st.sampled_from(("within", "not_within")), times).map(
        lambda pair: LastOrder.model_validate({"field": "last_order", pair[0]: pair[1]})
    )


LEAVES = st.one_of(
    span("age", st.integers(16, 21)),
    span("spent_90d_cents", st.integers(0, 500)),
    among("city", CITIES),
    among("level", LEVELS),
    tagged(),
    ordered(),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.lists(parts, min_size=1, max_size=4).map(lambda chosen: AllOf(all=chosen)),
        st.lists(parts, min_size=1, max_size=4).map(lambda chosen: AnyOf(any=chosen)),
        parts.map(lambda part: NotOf.model_validate({"not": part})),
    ),
    max_leaves=12,
)


def is_meant(condition: Condition, row: dict[str, object], own: set[str]) -> bool:
    """What a condition says, in plain Python."""
    match condition:
        case AllOf(all=parts):
            return all(is_meant(part, row, own) for part in parts)
        case AnyOf(any=parts):
            return any(is_meant(part, row, own) for part in parts)
        case NotOf(not_=part):
            return not is_meant(part, row, own)
        case Span(field=field, least=least, most=most):
            value = row[field]
            assert isinstance(value, int)
            return (least is None or value >= least) and (most is None or value <= most)
        case Among(field=field, among=chosen):
            return row[field] in chosen
        case Tags(any_of=any_of, all_of=all_of):
            return bool(own & set(any_of)) if any_of is not None else own >= set(all_of or ())
        case LastOrder(within=within, not_within=not_within):
            last = row["last_order_on"]
            assert last is None or isinstance(last, date)
            if within is not None:
                return last is not None and last >= (NOW - within).date()
            return last is None or last < (NOW - (not_within or timedelta(0))).date()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(condition=CONDITIONS)
def test_the_database_finds_those_whom_the_condition_says(crowd: Database, condition: Condition) -> None:
    wanted = [row["id"] for row, own in one_of_each() if is_meant(condition, row, own)]
    assert [*audience.stream(crowd, condition, NOW)] == wanted
    with crowd.reading() as connection:
        assert audience.count(connection, condition, NOW) == len(wanted)
        assert audience.is_nobody(connection, condition, NOW) == (not wanted)
        assert [row["id"] for row in audience.preview(connection, condition, NOW, 3)] == wanted[:3]


@pytest.mark.parametrize("field", ["age", "spent_90d_cents"])
def test_a_number_that_no_column_holds_is_asked_for_like_any_other(crowd: Database, field: str) -> None:
    beyond = TypeAdapter(Condition).validate_python({"field": field, "least": 2**53})
    within = TypeAdapter(Condition).validate_python({"field": field, "most": 2**53})
    with crowd.reading() as connection:
        assert (audience.count(connection, beyond, NOW), audience.count(connection, within, NOW)) == (0, 96)


EVERY_ADULT = Span(field="age", least=18)


def populate(database: Database, ids: range) -> int:
    """Adults, and between them some who are not; a promotion's id."""
    with database.writing() as connection:
        if ids:
            connection.execute(insert(users), [person(number, age=30 if number % 3 else 10) for number in ids])
        order = PromotionOrder(
            promotion_type=PromotionType.PLATFORM_PROMOTION,
            main_message="Half price",
            message="Today only",
            inform_type=InformType.APP_PUSH,
            starts_at=NOW,
            ends_at=NOW + timedelta(days=1),
        )
        return promotions.save(connection, order, save_id="a", now_ms=1).id


def members(database: Database, promotion_id: int) -> list[int]:
    with database.reading() as connection:
        wanted = select(audience_members.c.user_id).where(audience_members.c.promotion_id == promotion_id)
        return [*connection.execute(wanted.order_by(audience_members.c.user_id)).scalars()]


def test_a_stream_reads_a_page_at_a_time_and_no_page_twice(empty: Database) -> None:
    populate(empty, range(-50, 3_600))
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(empty.engine, "before_cursor_execute", note)
    streamed = [*audience.stream(empty, EVERY_ADULT, NOW)]
    event.remove(empty.engine, "before_cursor_execute", note)
    assert streamed == [number for number in range(-50, 3_600) if number % 3]
    pages = [text for text in statements if "SELECT users.id" in text]
    assert len(pages) == 4, "three times a thousand, and what is left"


@pytest.mark.parametrize("people", [0, 1, 1_500, 3_000])
def test_an_audience_is_frozen_and_does_not_change_any_more(empty: Database, people: int) -> None:
    promotion_id = populate(empty, range(1, people + 1))
    adults = [number for number in range(1, people + 1) if number % 3]
    assert audience.freeze(empty, promotion_id, EVERY_ADULT, NOW) == len(adults)
    with empty.writing() as connection:
        connection.execute(insert(users), [person(9_999)])
        connection.execute(update(users).values(age=50))
    assert audience.freeze(empty, promotion_id, EVERY_ADULT, NOW) == len(adults)
    assert members(empty, promotion_id) == adults
    with empty.reading() as connection:
        assert promotions.get(connection, promotion_id).audience_size == len(adults)


def test_a_freeze_that_was_broken_off_goes_on_behind_what_is_written_down(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    promotion_id = populate(empty, range(1, 4_501))
    whole, written = audience._is_written, []

    def dies(*given: object) -> bool:
        if len(written) == 2:
            raise ZeroDivisionError
        written.append(given)
        return whole(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(audience, "_is_written", dies)
    with pytest.raises(ZeroDivisionError):
        audience.freeze(empty, promotion_id, EVERY_ADULT, NOW)
    monkeypatch.undo()
    assert len(members(empty, promotion_id)) == 2_000
    with empty.writing() as connection:  # those who are written down stay so
        connection.execute(update(users).where(users.c.id < 100).values(age=1))
    assert audience.freeze(empty, promotion_id, EVERY_ADULT, NOW) == 3_000
    assert members(empty, promotion_id) == [number for number in range(1, 4_501) if number % 3]


def test_two_who_freeze_at_once_write_everybody_down_once(empty: Database) -> None:
    promotion_id = populate(empty, range(1, 4_501))
    sizes: list[int] = []

    def freeze() -> None:
        sizes.append(audience.freeze(empty, promotion_id, EVERY_ADULT, NOW))

    threads = [threading.Thread(target=freeze) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [3_000, 3_000]
    assert members(empty, promotion_id) == [number for number in range(1, 4_501) if number % 3]


def test_what_is_no_promotion_has_no_audience_to_freeze(empty: Database) -> None:
    with pytest.raises(NotFound):
        audience.freeze(empty, 7, EVERY_ADULT, NOW)
