"""The scene of cancelled orders through real daemons: API, broker, three groups, dead letters on the command line."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update
from typer.testing import CliRunner

from examples.marketing.api.app import create_app
from examples.marketing.app import marketing
from examples.marketing.orders.listening import LISTENERS
from examples.marketing.orders.seeding import Effects, Seeded, effects, seed
from examples.marketing.settings import RocketMq, Settings
from examples.marketing.shop import Shop, opened
from examples.marketing.store.tables import coupons, points
from examples.marketing.topics import ORDER_CANCELED
from shardcast import Executor
from shardcast.cli import app as command_line
from shardcast.testing import TestServer
from tests.support.shops import DAY, Clock, add_coupon, add_product, add_users


@dataclass(frozen=True)
class Scene:
    server: TestServer
    shop: Shop
    api: TestClient

    def seeded(self, count: int) -> Seeded:
        with self.shop.database.writing() as connection:
            return seed(connection, add_users(connection, count), now_ms=self.shop.now_ms)

    def effects(self, orders: Seeded) -> Effects:
        with self.shop.database.reading() as connection:
            return effects(connection, orders)

    def wait_read(self) -> None:
        for group in LISTENERS:
            self.server.wait_read(group)

    def cli(self, *arguments: str) -> str:
        done = CliRunner(env=dict(self.server.environment)).invoke(command_line, arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    def dead_letters(self, group: str) -> list[dict[str, object]]:
        return list(json.loads(self.cli("dead-letter", "list", group, "-o", "json"))["dead_letters"])


def executor_of(shop: Shop) -> Executor:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Shop]:
        yield shop

    return marketing(lifespan)


@pytest.fixture
def scene(tmp_path: Path, clock: Clock) -> Iterator[Scene]:
    with running(tmp_path, clock) as scene:
        yield scene


@contextmanager
def running(directory: Path, clock: Clock) -> Iterator[Scene]:
    with TestServer() as server:
        settings = Settings(rocketmq=RocketMq(name_server=server.broker), database=f"sqlite:///{directory / 'shop.db'}")
        with opened(settings, clock) as shop, TestClient(create_app(settings, clock)) as api:
            yield Scene(server, shop, api)


def test_of_cancelled_orders_each_effect_comes_once_and_a_second_cancel_gives_the_same_answer(scene: Scene) -> None:
    orders = scene.seeded(20)
    scene.server.start_executor(executor_of(scene.shop))
    answers = [scene.api.post(f"/orders/{order}/cancel") for order in orders.orders]
    again = [scene.api.post(f"/orders/{order}/cancel") for order in orders.orders]
    assert {answer.status_code for answer in answers + again} == {200}
    assert [answer.json() for answer in answers] == [answer.json() for answer in again]
    scene.wait_read()
    assert scene.effects(orders) == orders.all
    messages = scene.server.messages(ORDER_CANCELED)
    assert {message.key for message in messages} == set(map(str, orders.orders))
    assert (len(messages), all(message.ordered for message in messages)) == (20, True)


def test_one_effect_that_fails_holds_up_no_other_and_its_dead_letter_is_sent_again(scene: Scene) -> None:
    orders = scene.seeded(3)
    with scene.shop.database.writing() as connection:
        connection.execute(update(points).where(points.c.user_id == 2).values(balance=5))  # spent
    scene.cli("group", "alter", "points_deduction", "--attempts", "3", "--backoff", "10ms")
    scene.server.start_executor(executor_of(scene.shop))
    for order in orders.orders:
        assert scene.api.post(f"/orders/{order}/cancel").json()["state"] == "canceled"
    scene.wait_read()
    assert (scene.effects(orders).coupons, scene.effects(orders).pieces) == (3, 6)
    with scene.shop.database.reading() as connection:
        assert dict(connection.execute(select(points.c.user_id, points.c.balance)).all()) == {1: 0, 2: 5, 3: 0}

    [letter] = scene.dead_letters("points_deduction")
    assert letter["key"] == str(orders.orders[1])
    assert "20 cannot be deducted" in str(letter)
    assert [scene.dead_letters(group) for group in ("coupon_release", "stock_return")] == [[], []]
    with scene.shop.database.writing() as connection:
        connection.execute(update(points).where(points.c.user_id == 2).values(balance=20))
    scene.cli("dead-letter", "resend", "points_deduction", "--all", "--yes")
    scene.wait_read()
    assert scene.effects(orders) == orders.all  # all three groups got it again
    assert scene.dead_letters("points_deduction") == []


def test_coupons_and_orders_answer_over_http(scene: Scene, clock: Clock) -> None:
    with scene.shop.database.writing() as connection:
        add_users(connection, 2)
        coupon, product = add_coupon(connection, 1), add_product(connection, 5)
    post, get = scene.api.post, scene.api.get

    def code(answer: object) -> tuple[int, str]:
        return answer.status_code, answer.json()["code"]  # type: ignore[attr-defined]

    assert [each["state"] for each in get("/users/1/coupons").json()] == ["offered"]
    claimed = post(f"/coupons/{coupon.id}/claim", json={"user_id": 1})
    assert (claimed.status_code, claimed.json()["state"]) == (201, "granted")
    assert [each["state"] for each in get("/users/1/coupons").json()] == ["granted"]
    assert code(post(f"/coupons/{coupon.id}/claim", json={"user_id": 1})) == (409, "coupon_taken")
    assert code(post(f"/coupons/{coupon.id}/claim", json={"user_id": 2})) == (409, "coupon_sold_out")
    assert code(post("/coupons/999/claim", json={"user_id": 2})) == (404, "not_found")
    assert code(post(f"/coupons/{coupon.id}/claim", json={"user_id": "?"})) == (422, "bad_request")
    assert code(get("/users/3/coupons")) == (404, "not_found")

    body, key = {"user_id": 1, "product_id": product, "quantity": 2, "coupon_id": coupon.id}, {"Idempotency-Key": "k"}
    placed = post("/orders", json=body, headers=key)
    assert (placed.status_code, placed.json()["points"], placed.json()["state"]) == (201, 20, "placed")
    assert (
        post("/orders", json=body, headers=key).json() == placed.json() == get(f"/orders/{placed.json()['id']}").json()
    )
    assert code(post("/orders", json=body)) == (409, "coupon_not_usable")
    assert code(post("/orders", json=body | {"quantity": 1}, headers=key)) == (409, "order_differs")
    assert code(post("/orders", json={"user_id": 1, "product_id": product, "quantity": 4})) == (409, "out_of_stock")
    assert code(post("/orders", json={"user_id": 1, "product_id": product, "quantity": 0})) == (422, "bad_request")
    assert code(post("/orders", json={"user_id": 1, "product_id": 2**63})) == (422, "bad_request")
    assert code(post("/orders/999/cancel")) == (404, "not_found")
    clock.now += DAY
    assert code(post(f"/coupons/{coupon.id}/claim", json={"user_id": 2})) == (409, "coupon_expired")


def test_the_sweep_is_a_job_of_several_shards(scene: Scene, clock: Clock) -> None:
    scene.seeded(400)
    with scene.shop.database.writing() as connection:
        left = add_coupon(connection, 10)
    scene.server.start_executor(executor_of(scene.shop))
    for user_id in range(1, 8):
        assert scene.api.post(f"/coupons/{left.id}/claim", json={"user_id": user_id}).status_code == 201
    scene.server.job("expire-coupons", "marketing.expire-coupons", shards=4)
    clock.now += DAY
    for expected in (7, 0):
        run = scene.server.wait(scene.server.trigger("expire-coupons"))
        assert sum(result["expired"] for result in run.results) == expected
    with scene.shop.database.reading() as connection:
        assert connection.execute(select(coupons.c.remaining).where(coupons.c.id == left.id)).scalar_one() == 10
