"""Orders are cancelled while processes die: each of the three effects comes once."""

import asyncio
import signal
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from examples.marketing.api.app import create_app
from examples.marketing.orders import cancelling, placing
from examples.marketing.orders.errors import CancellationOvertaken
from examples.marketing.orders.listening import LISTENERS
from examples.marketing.orders.model import OrderState
from examples.marketing.orders.seeding import Effects, Seeded, effects, seed
from examples.marketing.settings import RocketMq, Settings
from examples.marketing.shop import Shop, opened
from examples.marketing.store.tables import inbox
from examples.marketing.topics import ORDER_CANCELED
from examples.marketing.transacting import GROUP
from shardcast import aio
from shardcast.testing import TestServer
from tests.support.demo_process import wait_for
from tests.support.dying_orders import AFTER, UNACKNOWLEDGED, UNCOMMITTED, WHEN
from tests.support.shops import add_users

APP = "tests.support.dying_orders:app"
ORDERS = 120
LEASE = timedelta(seconds=31)  # a little more than that of a message


def settings_on(server: TestServer, directory: Path) -> Settings:
    return Settings(rocketmq=RocketMq(name_server=server.broker), database=f"sqlite:///{directory / 'shop.db'}")


def seeded(shop: Shop, count: int) -> Seeded:
    with shop.database.writing() as connection:
        return seed(connection, add_users(connection, count), now_ms=shop.now_ms)


def so_far(shop: Shop, orders: Seeded) -> Effects:
    with shop.database.reading() as connection:
        return effects(connection, orders)


def count(shop: Shop, *groups: str) -> int:
    """Of what is in their inbox."""
    with shop.database.reading() as connection:
        query = select(func.count()).where(inbox.c.group_name.in_(groups))
        return int(connection.execute(query).scalar_one())


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.proof)])
def test_executors_that_die_at_the_worst_moments_have_each_effect_once(tmp_path: Path, kills: int) -> None:
    with TestServer() as server:
        settings = settings_on(server, tmp_path)
        config = tmp_path / "marketing.yaml"
        config.write_text(yaml.safe_dump({"rocketmq": {"nameServer": server.broker}, "database": settings.database}))
        with opened(settings) as shop, TestClient(create_app(settings)) as api:
            orders = seeded(shop, ORDERS)
            codes: list[int] = []

            def cancel_all() -> None:
                codes.extend(api.post(f"/orders/{order}/cancel").status_code for order in orders.orders)

            canceller = threading.Thread(target=cancel_all)
            canceller.start()
            for number in range(kills):
                when = (UNACKNOWLEDGED, UNCOMMITTED)[number % 2]
                life = {WHEN: when, AFTER: str(2 * ORDERS // kills), "MARKETING_CONFIG": str(config)}
                dying = server.start_process(APP, environment=life)
                assert dying.process.wait(timeout=60) == -signal.SIGKILL
                server.faults.kill(dying)
                server.advance(LEASE)  # what it held is for others
            server.start_process(APP, environment={"MARKETING_CONFIG": str(config)})
            canceller.join()
            for group in LISTENERS:
                server.wait_read(group)
            assert codes == [200] * ORDERS
            assert (so_far(shop, orders), count(shop, *LISTENERS)) == (orders.all, 3 * ORDERS)
            assert len(server.messages(ORDER_CANCELED)) == ORDERS


async def left_open(server: TestServer, shop: Shop, order_id: int, *, is_kept: bool) -> cancelling.OrderCanceledEvent:
    """What an API does that dies in the middle of a cancellation."""
    with shop.database.reading() as connection:
        event = cancelling.event_of(placing.get(connection, order_id))
    async with aio.Producer(server.broker, group=GROUP) as producer:
        transaction = producer.transaction()
        await transaction.__aenter__()
        await transaction.publish(ORDER_CANCELED, cancelling.message_of(event))
        if is_kept:
            await asyncio.to_thread(cancelling.keep, shop, event)
    return event


def test_what_an_api_that_died_had_committed_goes_out_and_what_it_had_not_never_does(tmp_path: Path) -> None:
    with TestServer() as server:
        settings = settings_on(server, tmp_path)
        with opened(settings) as shop:
            orders = seeded(shop, 2)
            asyncio.run(left_open(server, shop, orders.orders[0], is_kept=True))
            slow = asyncio.run(left_open(server, shop, orders.orders[1], is_kept=False))
            with TestClient(create_app(settings)) as api:  # another one, which lives
                server.advance(timedelta(seconds=10))
                [message] = wait_for("the event", lambda: server.messages(ORDER_CANCELED) or None)
                assert message.key == str(orders.orders[0])
                wait_for("the other answer", lambda: count(shop, cancelling.DECIDED) == 2 or None)
                with pytest.raises(CancellationOvertaken):
                    cancelling.keep(shop, slow)
                answer = api.post(f"/orders/{orders.orders[1]}/cancel")
                assert answer.json()["state"] == OrderState.CANCELED
                assert len(server.messages(ORDER_CANCELED)) == 2
