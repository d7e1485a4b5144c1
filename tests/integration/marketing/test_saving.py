"""A promotion and its event: both or neither, whatever dies in between."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import OperationalError

from examples.marketing import transacting
from examples.marketing.errors import (
    BadRequest,
    BrokerAway,
    EmptyAudience,
    NotFound,
    PromotionDiffers,
    TooSlow,
    WrongState,
)
from examples.marketing.messages import Phase, PromotionSaved
from examples.marketing.promotions import saving
from examples.marketing.promotions.model import Canary, Promotion, PromotionOrder, Steering, to_ms
from examples.marketing.promotions.saving import add, save, was_saved
from examples.marketing.promotions.states import Verb
from examples.marketing.settings import Settings
from examples.marketing.shop import Shop, opened, utc_now
from examples.marketing.store import database, promotions, tables
from examples.marketing.topics import PROMOTION_SAVED
from examples.marketing.transacting import GROUP
from shardcast import Message, Producer, aio
from shardcast.testing import TestServer
from tests.support.dying_saver import order


@pytest.fixture(scope="module")
def server() -> Iterator[TestServer]:
    with TestServer() as server:
        yield server


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """With three users."""
    with opened(Settings(database=f"sqlite:///{tmp_path / 'shop.db'}")) as shop:
        with shop.database.writing() as connection:
            row = {"name": "x", "city": "Lima", "level": "gold", "age": 30, "spent_90d_cents": 0}
            connection.execute(insert(tables.users), [{"id": number, **row} for number in (5, 7, 900)])
        yield shop


def saved(server: TestServer, shop: Shop, given: PromotionOrder, promotion_id: int | None = None) -> Promotion:
    async def call() -> Promotion:
        async with aio.Producer(server.broker, group=GROUP) as producer:
            return await save(producer, shop, given, promotion_id)

    return asyncio.run(call())


def events(server: TestServer, since: int = 0) -> list[PromotionSaved]:
    """In the order in which they are seen; those behind the first so many."""
    found = sorted(server.messages(PROMOTION_SAVED), key=lambda message: message.published_at)
    return [PromotionSaved.model_validate_json(message.body) for message in found][since:]


def rows(shop: Shop) -> int:
    with shop.database.reading() as connection:
        return len(connection.execute(select(tables.promotions.c.id)).all())


def with_changes(**fields: object) -> PromotionOrder:
    return PromotionOrder.model_validate({**order().model_dump(), **fields})


def test_a_saved_promotion_is_followed_by_its_event(server: TestServer, shop: Shop) -> None:
    known = len(events(server))
    canary = Steering(canary=Canary(share=0.1))
    send_at = utc_now() + timedelta(hours=1)
    first = saved(server, shop, order())
    second = saved(server, shop, with_changes(steering=canary, send_at=send_at), first.id)
    old, new = events(server, known)
    assert (old.promotion_id, old.version, old.phase, old.first_id, old.last_id) == (first.id, 1, Phase.REST, 5, 900)
    assert (new.promotion_id, new.version, new.phase, new.send_at_ms) == (first.id, 2, Phase.CANARY, to_ms(send_at))
    with shop.database.reading() as connection:
        assert promotions.get(connection, first.id) == second
    assert saved(server, shop, order()).id != first.id


def test_what_cannot_be_saved_leaves_neither_row_nor_event(server: TestServer, shop: Shop) -> None:
    launched = saved(server, shop, order())
    with shop.database.writing() as connection:
        promotions.move(connection, launched.id, Verb.LAUNCH, reason="", now_ms=1)
    known = len(events(server))
    with pytest.raises(WrongState, match="running: change is not possible"):
        saved(server, shop, order(), launched.id)
    with pytest.raises(NotFound):
        saved(server, shop, order(), launched.id + 1)
    over = with_changes(starts_at=utc_now() - timedelta(days=2), ends_at=utc_now() - timedelta(days=1))
    with pytest.raises(BadRequest, match="has ended already"):
        saved(server, shop, over)
    nobody = with_changes(
        promotion_type="designated_coupon",
        audience={"field": "age", "least": 31},
        coupon={"name": "5 off", "value_cents": 500, "stock": 1, "expires_at": utc_now() + timedelta(days=9)},
    )
    with pytest.raises(EmptyAudience):
        saved(server, shop, nobody)
    saved(server, shop, order())
    assert (rows(shop), len(events(server, known))) == (2, 1)


def test_where_there_are_no_users_at_all_there_is_nobody_to_send_to(server: TestServer, tmp_path: Path) -> None:
    with opened(Settings(database=f"sqlite:///{tmp_path / 'empty.db'}")) as shop, pytest.raises(EmptyAudience):
        saved(server, shop, order())


def added(server: TestServer, shop: Shop, given: PromotionOrder, key: str, times: int = 1) -> list[Promotion]:
    """All at once."""

    async def call() -> list[Promotion]:
        async with aio.Producer(server.broker, group=GROUP) as producer:
            return await asyncio.gather(*(add(producer, shop, given, key) for _ in range(times)))

    return asyncio.run(call())


def test_a_request_that_comes_again_leads_to_the_same_promotion(server: TestServer, shop: Shop) -> None:
    known, asked = len(events(server)), order()
    (first,) = added(server, shop, asked, "k")
    assert added(server, shop, asked, "k") == [first]
    changed = saved(server, shop, with_changes(message="Only tomorrow"), first.id)
    assert added(server, shop, asked, "k") == [changed]
    with pytest.raises(PromotionDiffers, match=f"'k' belongs to another promotion, {first.id}"):
        added(server, shop, with_changes(message="Only tomorrow"), "k")
    (other,) = added(server, shop, asked, "l")
    assert [(each.promotion_id, each.version) for each in events(server, known)] == [
        (first.id, 1),
        (first.id, 2),
        (other.id, 1),
    ]


def test_the_same_request_many_times_at_once_leads_to_one_promotion(
    server: TestServer, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, meet, draft = len(events(server)), threading.Barrier(4), saving._draft

    def drafted(*given: object) -> promotions.Draft:
        made = draft(*given)  # type: ignore[arg-type]
        meet.wait(20)
        return made

    monkeypatch.setattr(saving, "_draft", drafted)
    assert len({each.id for each in added(server, shop, order(), "k", times=4)}) == 1
    assert (rows(shop), len(events(server, known))) == (1, 1)


def test_two_changes_at_once_are_one_change_and_one_refusal(
    server: TestServer, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, known = saved(server, shop, order()), len(events(server))
    meet, draft = threading.Barrier(2), saving._draft

    def drafted(*given: object) -> promotions.Draft:
        made = draft(*given)  # type: ignore[arg-type]
        meet.wait(20)
        return made

    monkeypatch.setattr(saving, "_draft", drafted)

    async def both() -> list[Promotion | BaseException]:
        async with aio.Producer(server.broker, group=GROUP) as producer:
            calls = (save(producer, shop, order(), first.id) for _ in range(2))
            return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = asyncio.run(both())
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Promotion", "WrongState"]
    assert [event.version for event in events(server, known)] == [2]


def test_what_took_too_long_is_not_written_down(
    server: TestServer, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, keep = len(events(server)), promotions.keep
    late = replace(shop, clock=lambda: utc_now() + ahead[0])
    ahead = [timedelta(0)]

    def kept(*given: object, **named: object) -> Promotion:
        ahead[0] = saving.LATEST + timedelta(seconds=1)
        return keep(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(promotions, "keep", kept)
    with pytest.raises(TooSlow):
        saved(server, late, order())
    assert (rows(shop), events(server, known)) == (0, [])


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_commit_whose_answer_is_lost_counts_as_what_it_was(
    server: TestServer, shop: Shop, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    """The database is away for a while then."""
    known, writing, keep, lost = len(events(server)), shop.database.writing, promotions.keep, list[str]()

    @contextmanager
    def losing() -> Iterator[Connection]:
        if 0 < len(lost) < 3:
            lost.append("connect")
            raise OperationalError("", {}, OSError("refused"))
        with writing() as connection:
            yield connection
            if lost == ["kept"] and not is_committed:
                raise OperationalError("COMMIT", {}, OSError("cut"))
        if lost == ["kept"]:
            raise OperationalError("COMMIT", {}, OSError("cut"))

    def kept(*given: object, **named: object) -> Promotion:
        lost.append("kept")
        return keep(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(database, "AWAY_SECONDS", 0.01)
    monkeypatch.setattr(promotions, "keep", kept)
    monkeypatch.setattr(shop.database, "writing", losing)
    if is_committed:
        assert saved(server, shop, order()).version == 1
    else:
        with pytest.raises(OperationalError, match="cut"):
            saved(server, shop, order())
    assert (rows(shop), len(events(server, known))) == ((1, 1) if is_committed else (0, 0))
    assert lost == ["kept", "connect", "connect"]


def test_a_broker_that_is_away_is_told_of_and_nothing_is_saved(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transacting, "BROKER_SECONDS", 0.2)

    async def call(own: TestServer) -> None:
        async with aio.Producer(own.broker, group=GROUP) as producer:
            await asyncio.to_thread(own.__exit__, None, None, None)
            with pytest.raises(BrokerAway):
                await save(producer, shop, order())

    own = TestServer()
    own.__enter__()
    asyncio.run(call(own))
    assert rows(shop) == 0


def test_a_call_that_is_cancelled_while_the_database_works_leaves_both(
    server: TestServer, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, at_work, go_on = len(events(server)), threading.Event(), threading.Event()
    keep = saving._keep

    def kept(*given: object) -> Promotion:
        at_work.set()
        assert go_on.wait(20)
        return keep(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(saving, "_keep", kept)

    async def call() -> None:
        async with aio.Producer(server.broker, group=GROUP) as producer:
            calling = asyncio.create_task(save(producer, shop, order()))
            assert await asyncio.to_thread(at_work.wait, 20)
            calling.cancel()
            await asyncio.sleep(0)
            go_on.set()
            await calling

    asyncio.run(call())
    assert (rows(shop), len(events(server, known))) == (1, 1)


class Answers:
    """The check back, as the API gives it, and what it said."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._told = threading.Condition()
        self.given: list[bool | None] = []

    def __call__(self, message: Message) -> bool | None:
        answer = was_saved(self._shop, message)
        with self._told:
            self.given.append(answer)
            self._told.notify_all()
        return answer

    def wait(self, server: TestServer, count: int) -> None:
        """Lets time pass until the broker has asked so often."""
        give_up_at = time.monotonic() + 30
        while len(self.given) < count:
            assert time.monotonic() < give_up_at
            server.advance(timedelta(seconds=10))
            with self._told:
                self._told.wait_for(lambda: len(self.given) >= count, timeout=0.1)


def killed(server: TestServer, shop: Shop, moment: str) -> None:
    """A process that is killed before or after its database transaction is committed."""
    command = [sys.executable, "-m", "tests.support.dying_saver", server.broker, shop.settings.database, moment]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9


def test_the_event_of_a_process_that_died_after_the_commit_comes_out(server: TestServer, shop: Shop) -> None:
    known = len(events(server))
    killed(server, shop, "after")
    assert (rows(shop), events(server, known)) == (1, [])
    answers = Answers(replace(shop, clock=lambda: server.now))
    with Producer(server.broker, group=GROUP, check=answers):
        answers.wait(server, 1)
        while not events(server, known):  # the broker has the answer a moment later
            time.sleep(0.01)
    assert answers.given == [True]
    (event,) = events(server, known)
    assert (event.version, event.first_id, event.last_id) == (1, 5, 900)


def test_the_event_of_a_process_that_died_before_the_commit_never_does(server: TestServer, shop: Shop) -> None:
    known = len(events(server))
    killed(server, shop, "before")
    assert rows(shop) == 0
    drafted_at = server.now
    answers = Answers(replace(shop, clock=lambda: server.now))
    with Producer(server.broker, group=GROUP, check=answers):
        answers.wait(server, 1)
        while answers.given[-1] is None:  # as long as it may still come to that
            assert server.now - drafted_at < 3 * saving.DECIDED_AFTER
            answers.wait(server, len(answers.given) + 1)
    assert answers.given[-1] is False
    later = saved(server, shop, order())
    assert [event.promotion_id for event in events(server, known)] == [later.id]


@pytest.mark.parametrize(
    ("age", "answer"), [(timedelta(0), None), (saving.DECIDED_AFTER, False), (timedelta(days=1), False)]
)
def test_a_save_that_is_not_there_may_still_come_for_a_minute(shop: Shop, age: timedelta, answer: bool | None) -> None:
    drafted_at_ms = shop.now_ms
    message = saving._message(saving._draft(shop, order(), None), order(), drafted_at_ms)
    frozen = utc_now().fromtimestamp(drafted_at_ms / 1000, tz=utc_now().tzinfo)
    assert was_saved(replace(shop, clock=lambda: frozen + age), message) is answer
