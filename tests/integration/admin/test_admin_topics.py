"""Topics, groups and dead letters over REST, against a real broker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from broker.client import Consumer, Message, Producer
from broker.testing import running_broker
from tests.support.admin_harness import running_admin

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def rest(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A client of an admin that knows a broker, and where that is."""
    async with (
        running_broker(tmp_path / "broker") as broker,
        running_admin(tmp_path / "admin", broker=broker) as admin,
        admin.client() as client,
    ):
        yield client, broker


async def publish(broker: str, topic: str, *messages: Message) -> None:
    async with Producer(broker) as producer:
        await producer.publish_batch(topic, messages)


async def read_one_batch(broker: str, topic: str, group: str) -> None:
    async with Consumer(broker, group, [topic]) as consumer:
        await consumer.commit(await anext(consumer))


async def test_a_topic_is_made_described_altered_and_deleted(tmp_path: Path) -> None:
    async with rest(tmp_path) as (client, broker):
        made = await client.post("/topics", json={"name": "orders", "queues": 2, "retention": "3d"})
        assert (made.status_code, made.json()["retention"], made.json()["writable"]) == (201, "3d", True)
        await publish(broker, "orders", *(Message(b"x", key=f"k{n}") for n in range(10)))
        await read_one_batch(broker, "orders", "billing")
        described = (await client.get("/topics/orders")).json()
        assert (described["depth"], described["read_queues"], described["write_queues"]) == (10, 2, 2)
        assert sum(queue["end_offset"] for queue in described["queues"]) == 10
        assert [(group["group"], group["mode"]) for group in described["groups"]] == [("billing", "offset")]
        assert (await client.get("/topics")).json()["topics"] == [
            {field: value for field, value in described.items() if field != "groups"}
        ]
        change = {"write_queues": 4, "read_queues": 4, "writable": False}
        altered = (await client.patch("/topics/orders", json=change)).json()
        assert {field: altered[field] for field in change} == change
        assert altered["retention"] == "3d", "what is not named stays"
        assert (await client.patch("/topics/orders", json={"retention": None})).json()["retention"] is None
        assert (await client.delete("/topics/orders")).status_code == 204
        assert (await client.get("/topics/orders")).json()["code"] == "unknown_topic"


async def test_a_look_at_messages_moves_no_group(tmp_path: Path) -> None:
    async with rest(tmp_path) as (client, broker):
        await client.post("/topics", json={"name": "t", "queues": 2})
        for number in range(6):
            await publish(broker, "t", Message(f"é{number}".encode(), key=f"k{number}", properties={"n": str(number)}))
        await publish(broker, "t", Message(b"\xff\x00", key="binary"))
        latest = (await client.get("/topics/t/messages", params={"limit": 3})).json()["messages"]
        assert [message["key"] for message in latest] == ["k4", "k5", "binary"]
        assert (latest[1]["body"], latest[1]["encoding"], latest[1]["properties"]) == ("é5", "text", {"n": "5"})
        assert (latest[2]["body"], latest[2]["encoding"]) == ("/wA=", "base64")
        one = latest[0]
        place = {"queue": one["queue"], "offset": one["offset"], "limit": 1}
        assert (await client.get("/topics/t/messages", params=place)).json()["messages"] == [one]
        assert (await client.get("/topics/t/messages", params={"key": "k4"})).json()["messages"] == [one]
        at = {"at": one["published_at"], "limit": 2}
        assert (await client.get("/topics/t/messages", params=at)).json()["messages"][0]["published_at"] >= one[
            "published_at"
        ]
        assert (await client.get("/groups")).json() == {"groups": [], "next_page_token": ""}


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"queue": 9}, 404, "unknown_queue"),
        ({"queue": 0, "offset": 99}, 400, "offset_out_of_range"),
        ({"offset": 1}, 400, "invalid_argument"),
        ({"key": "k", "at": "2026-12-01T09:00:00Z"}, 400, "invalid_argument"),
        ({"at": "2026-12-01T09:00:00"}, 400, "invalid_argument"),
        ({"limit": 0}, 400, "invalid_argument"),
    ],
)
async def test_a_look_where_nothing_can_be_is_refused(
    tmp_path: Path, query: dict[str, object], status: int, code: str
) -> None:
    async with rest(tmp_path) as (client, _):
        await client.post("/topics", json={"name": "t", "queues": 1})
        answer = await client.get("/topics/t/messages", params=query)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_group_is_shown_and_altered(tmp_path: Path) -> None:
    async with rest(tmp_path) as (client, broker):
        await client.post("/topics", json={"name": "t", "queues": 1})
        await publish(broker, "t", *(Message(b"x") for _ in range(5)))
        async with Consumer(broker, "g", ["t"], max_messages=2) as consumer:
            await consumer.commit(await anext(consumer))
            group = (await client.get("/groups/g")).json()
            [queue] = group["queues"]
            assert (queue["committed_offset"], queue["end_offset"], queue["lag"], group["lag"]) == (2, 5, 3, 3)
            assert [member["topics"] for member in group["members"]] == [["t"]]
            assert queue["owner"] == group["members"][0]["id"]
            assert queue["oldest_unread_at"] is not None
            assert (await client.delete("/groups/g")).json()["code"] == "group_active"
        patch = {"attempts": 3, "backoff": {"initial": "1s", "max": "1m", "multiplier": 3}}
        altered = (await client.patch("/groups/g", json=patch)).json()
        assert {field: altered[field] for field in patch} == patch
        assert altered["most_leased"] == group["most_leased"], "what is not named stays"
        steps = {"backoff": {"steps": ["1s", "1m30s"]}}
        assert (await client.patch("/groups/g", json=steps)).json()["backoff"] == steps["backoff"]
        assert (await client.patch("/groups/g", json={"attempts": 0})).json()["code"] == "invalid_argument"
        assert (await client.delete("/groups/g")).status_code == 204
        assert (await client.get("/groups/g")).json()["code"] == "unknown_group"


async def test_a_reset_is_previewed_and_compared(tmp_path: Path) -> None:
    async with rest(tmp_path) as (client, broker):
        await client.post("/topics", json={"name": "t", "queues": 1})
        await publish(broker, "t", *(Message(b"x") for _ in range(5)))
        await read_one_batch(broker, "t", "g")
        order = {"topic": "t", "to": "earliest"}
        preview = (await client.post("/groups/g/reset", json={**order, "preview": True})).json()
        assert preview == {"before": [5], "after": [0]}
        assert (await client.get("/groups/g")).json()["lag"] == 0, "a preview changes nothing"
        stale = await client.post("/groups/g/reset", json={**order, "expected": [4]})
        assert (stale.status_code, stale.json()["code"]) == (412, "offsets_moved")
        assert (await client.post("/groups/g/reset", json={**order, "expected": [5]})).json() == preview
        assert (await client.get("/groups/g")).json()["lag"] == 5
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        for to, after in ((later, [5]), ([3], [3]), ("latest", [5])):
            assert (await client.post("/groups/g/reset", json={"topic": "t", "to": to})).json()["after"] == after
        async with Consumer(broker, "g", ["t"]):
            active = await client.post("/groups/g/reset", json=order)
            assert (active.status_code, active.json()["code"]) == (409, "group_active")
            assert (await client.post("/groups/g/reset", json={**order, "force": True})).json()["after"] == [0]


async def test_the_broker_is_described(tmp_path: Path) -> None:
    async with rest(tmp_path) as (client, broker):
        await publish(broker, "t", Message(b"x" * 1000))
        described = (await client.get("/broker")).json()
        assert described["bytes"] > 1000
        assert (described["durability"], described["is_refusing_publishes"]) == ("fsync", False)
        assert [holder["kind"] for holder in described["oldest_held_by"]] != []
        assert described["fsync"]["count"] > 0


async def test_without_a_broker_only_topics_and_groups_are_missing(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as admin, admin.client() as client:
        for path in ("/broker", "/topics", "/topics/t", "/topics/t/messages", "/groups", "/groups/g/dead-letters"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "broker_away")
            assert "127.0.0.1:1" in answer.json()["detail"]
        assert (await client.get("/jobs")).status_code == 200


async def test_topics_are_for_administrators(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as admin:
        for token, status in (("", 401), (admin.executor_token, 403)):
            async with admin.client(token) as client:
                assert (await client.get("/topics")).status_code == status
                assert (await client.post("/groups/g/dead-letters/purge", json={})).status_code == status


async def pages(client: httpx.AsyncClient, path: str, field: str, **query: str) -> list[list[str]]:
    """The names on each page of two."""
    found, page_token = [], ""
    while True:
        page = (await client.get(path, params={"page_size": 2, "page_token": page_token, **query})).json()
        found.append([each["name"] for each in page[field]])
        if not (page_token := page["next_page_token"]):
            return found


async def test_lists_of_topics_and_groups_come_in_pages(tmp_path: Path) -> None:
    async with rest(tmp_path) as (client, broker):
        for name in ("c", "a", "e", "b"):
            await client.post("/topics", json={"name": name})
            await client.patch(f"/groups/{name}", json={"attempts": 3})
        await read_nothing(broker, "a", "e")
        await client.post("/topics", json={"name": "d"})
        assert await pages(client, "/topics", "topics") == [["a", "b"], ["c", "d"], ["e"]]
        assert await pages(client, "/groups", "groups") == [["a", "b"], ["c", "e"]]
        assert await pages(client, "/groups", "groups", topic="a") == [["e"]]
        assert (await client.get("/topics", params={"page_size": 0})).json()["code"] == "invalid_argument"


async def read_nothing(broker: str, topic: str, group: str) -> None:
    async with Consumer(broker, group, [topic]):
        pass


@pytest.mark.parametrize("call", ["resend", "purge"])
async def test_a_selection_of_dead_letters_that_came_out_empty_is_not_all_of_them(tmp_path: Path, call: str) -> None:
    async with rest(tmp_path) as (client, broker):
        await publish(broker, "t", Message(b"x"))
        async with Consumer(broker, "g", ["t"]) as consumer:
            await consumer.give_up(*await anext(consumer), error="no")
        refused = await client.post(f"/groups/g/dead-letters/{call}", json={"offsets": []})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_argument")
        assert len((await client.get("/groups/g/dead-letters")).json()["dead_letters"]) == 1
        assert (await client.post(f"/groups/g/dead-letters/{call}", json={})).status_code == 200
        assert (await client.get("/groups/g/dead-letters")).json()["dead_letters"] == []


async def test_messages_are_kept_for_some_time_or_as_the_broker_says(tmp_path: Path) -> None:
    async with rest(tmp_path) as (client, _):
        refused = await client.post("/topics", json={"name": "t", "retention": "0s"})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_argument")
        assert (await client.post("/topics", json={"name": "t", "retention": "1s"})).json()["retention"] == "1s"
