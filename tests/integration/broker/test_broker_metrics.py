"""Metrics over HTTP, as a monitor reads them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.client import Consumer, Message, Producer
from broker.daemon import House, build
from broker.errors import UnknownTopic
from broker.settings import BrokerSettings
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import dial, renamed

pytestmark = pytest.mark.anyio

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[tuple[House, httpx.AsyncClient]]:
    settings = BrokerSettings.from_env(data=data, port=0, metrics_port=0, create_topics=True)
    async with build(settings) as house:
        serving = asyncio.create_task(house.run())
        try:
            async with httpx.AsyncClient(base_url=f"http://{house.endpoints['metrics']}") as client:
                yield house, client
        finally:
            house.stop()
            await serving


async def scrape(client: httpx.AsyncClient) -> Samples:
    response = await client.get("/metrics")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = text_string_to_metric_families(response.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value for each in families for sample in each.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"shardcast_broker_{name}", frozenset(labels.items())]


async def test_a_monitor_sees_depth_lag_syncs_and_refusals(tmp_path: Path) -> None:
    async with running(tmp_path) as (house, client):
        endpoint = house.endpoints["grpc"]
        async with Producer(endpoint) as producer:
            await producer.publish_batch("orders", [Message(b"%d" % number, key="k") for number in range(10)])
        async with Consumer(endpoint, "g", ["orders"]) as consumer:
            batch = await anext(aiter(consumer))
            await consumer.commit(batch)
        async with dial(endpoint) as channel:
            with suppress(UnknownTopic), renamed(endpoint):
                await BrokerServiceStub(channel).GetTopic(pb.GetTopicRequest(name="missing"))
        samples = await scrape(client)
    queue = str(batch.queue)
    assert value(samples, "messages", topic="orders", queue=queue) == 10
    assert value(samples, "published_messages_total", topic="orders") == 10
    assert value(samples, "group_lag_messages", group="g", topic="orders", queue=queue) == 10 - len(batch)
    assert value(samples, "consumed_messages_total", group="g", topic="orders") == len(batch)
    assert value(samples, "fsync_seconds_count") >= 2
    assert value(samples, "fsync_seconds_bucket", le="+Inf") == value(samples, "fsync_seconds_count")
    assert value(samples, "refusals_total", code="unknown_topic") == 1
    assert value(samples, "log_segments") == 1
    assert value(samples, "log_bytes") > 0


async def test_a_broker_says_that_it_lives_and_whether_it_takes_requests(tmp_path: Path) -> None:
    async with running(tmp_path) as (house, client):
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/other")).status_code == 404
        house.stop()
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/metrics")).status_code == 503
        assert (await client.get("/livez")).status_code == 200
