"""A shop: orders are published from a request, confirmed by a listener, and counted by a job that a route starts.

The executor runs in the web application's own process and event loop. Where admin and broker are comes from the
environment, as for `shardcast executor`.
"""

import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel

from shardcast import Executor, Message, ShardcastError, aio
from shardcast.rest import RestClient

REPORT = {
    "name": "sales-report",
    "group": "shop",
    "handler": "shop.report",
    "trigger": {"cron": "0 0 6 * * ?", "time_zone": "Asia/Shanghai"},
}

executor = Executor("shop")
sold: Counter[str] = Counter()  # a real shop has a database


class Order(BaseModel):
    number: int
    item: str


@executor.consumer("orders", group="shop-confirmations")
def confirm(message: Message) -> None:
    """Called once an order is on the broker's disk, again if it raises."""
    sold[Order.model_validate_json(message.body).item] += 1


@executor.job("shop.report")
async def report(context: aio.Context) -> dict[str, int]:
    context.log.info("%d items were sold", sold.total())
    return dict(sold)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Starts after admin and broker, and drains before the application ends."""
    _declare_job()
    broker = os.environ.get("SHARDCAST_BROKER", "127.0.0.1:8081")
    async with aio.running(executor), aio.Producer(broker) as producer:
        app.state.producer = producer
        yield


def _declare_job() -> None:
    with RestClient.from_env() as admin:
        try:
            admin.post("/jobs", REPORT)
        except ShardcastError as error:
            if error.code != "job_exists":  # somebody may have changed its trigger since
                raise


def _producer(request: Request) -> aio.Producer:
    producer: aio.Producer = request.app.state.producer
    return producer


def _admin() -> Iterator[RestClient]:
    with RestClient.from_env() as admin:
        yield admin


Publisher = Annotated[aio.Producer, Depends(_producer)]
Admin = Annotated[RestClient, Depends(_admin)]

app = FastAPI(title="Shop", lifespan=lifespan)


@app.post("/orders", status_code=202)
async def take_order(order: Order, producer: Publisher) -> dict[str, str]:
    """Answers once the order is on the broker's disk."""
    receipt = await producer.publish("orders", Message(order.model_dump_json().encode(), key=str(order.number)))
    return {"message_id": receipt.message_id}


@app.post("/reports", status_code=202)
def start_report(admin: Admin) -> dict[str, str]:
    """Starts a run of the job; a plain function, as the client blocks."""
    run = admin.post("/jobs/sales-report/trigger")
    return {"run_id": run["id"]}


@app.get("/reports/{run_id}")
def get_report(run_id: str, admin: Admin) -> dict[str, object]:
    """How far it is, and what it found once it has succeeded."""
    (shard,) = admin.get(f"/runs/{run_id}/shards")["shards"]
    return {"state": shard["state"], "sold": shard["result"]}
