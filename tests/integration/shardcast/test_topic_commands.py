"""`shardcast topic` and `shardcast dead-letter` against a real admin and a real broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker.client import Consumer, Message, Producer
from broker.errors import OffsetOutOfRange
from broker.testing import running_broker
from protos.errors import ShardcastError
from protos.exits import Exit, exit_code_of
from shardcast.cli import app
from tests.support.admin_harness import running_admin

pytestmark = pytest.mark.anyio

Cli = Callable[..., Awaitable[Result]]


@asynccontextmanager
async def command_line(tmp_path: Path) -> AsyncIterator[tuple[Cli, str]]:
    """Calls the command line, with `answer` typed in; and where the broker is."""
    async with (
        running_broker(tmp_path / "broker") as broker,
        running_admin(tmp_path / "admin", broker=broker) as admin,
    ):
        environment = {"SHARDCAST_SERVER": admin.http, "SHARDCAST_TOKEN": admin.admin_token}

        async def cli(*arguments: str, answer: str = "") -> Result:
            return await asyncio.to_thread(CliRunner(env=environment).invoke, app, arguments, input=answer)

        yield cli, broker


async def publish(broker: str, topic: str, *messages: Message) -> None:
    async with Producer(broker) as producer:
        await producer.publish_batch(topic, messages)


def rows(result: Result) -> list[list[str]]:
    """The cells of a table, without its head."""
    assert result.exception is None, result.exception
    return [line.split() for line in result.stdout.splitlines()[2:]]


async def test_topics_are_made_listed_altered_and_deleted(tmp_path: Path) -> None:
    async with command_line(tmp_path) as (cli, broker):
        await cli("topic", "create", "orders", "--queues", "2", "--retention", "3d", "--rate", "1000")
        assert rows(await cli("topic", "list")) == [["orders", "0", "2", "2", "0", "0.0", "3d"]]
        await publish(broker, "orders", Message(b"x"))
        [[*counts, rate, retention]] = rows(await cli("topic", "list"))
        assert (counts, float(rate) <= 1, retention) == (["orders", "1", "2", "2", "0"], True, "3d")
        await cli("topic", "alter", "orders", "--queues", "4", "--retention", "default", "--read-only")
        [topic] = json.loads((await cli("topic", "list", "-o", "json")).stdout)["topics"]
        changed = ("read_queues", "write_queues", "retention", "writable", "messages_per_second")
        assert [topic[field] for field in changed] == [4, 4, None, False, 1000]
        described = await cli("topic", "describe", "orders")
        assert described.stdout.startswith("name: orders\n")
        assert "durability: fsync\n" in (await cli("topic", "describe")).stdout
        assert (await cli("topic", "delete", "orders", answer="n\n")).exit_code == 1
        assert "orders is deleted." in (await cli("topic", "delete", "orders", answer="y\n")).stdout
        assert rows(await cli("topic", "list")) == []


async def test_messages_are_looked_at_by_place_key_and_time(tmp_path: Path) -> None:
    async with command_line(tmp_path) as (cli, broker):
        await cli("topic", "create", "t", "--queues", "1")
        await publish(broker, "t", *(Message(b"line\n%d" % n, key=f"k{n}", tag="new") for n in range(3)))
        at = json.loads((await cli("topic", "peek", "t", "-o", "json")).stdout)["messages"][0]["published_at"]
        line = ["0", "1", at, "k1", "new", r"line\n1"]
        assert rows(await cli("topic", "peek", "t", "--queue", "0", "--offset", "1", "--limit", "1")) == [line]
        assert rows(await cli("topic", "find", "t", "--key", "k1")) == [line]
        assert len(rows(await cli("topic", "find", "t", "--at", at))) == 3
        assert rows(await cli("topic", "lag", "t")) == [], "no group has moved"


async def test_a_group_is_moved_as_the_preview_said(tmp_path: Path) -> None:
    async with command_line(tmp_path) as (cli, broker):
        await cli("topic", "create", "t", "--queues", "1")
        await publish(broker, "t", *(Message(b"x") for _ in range(5)))
        async with Consumer(broker, "g", ["t"]) as consumer:
            await consumer.commit(await anext(consumer))
            refused = await cli("topic", "reset", "t", "--group", "g", "--to", "earliest", "--yes")
            assert isinstance(refused.exception, ShardcastError)
            assert "is active" in str(refused.exception)
        reset = ["topic", "reset", "t", "--group", "g", "--to", "2"]
        assert rows(await cli(*reset, "--dry-run")) == [["0", "5", "2", "-3"]]
        assert (await cli(*reset, answer="n\n")).exit_code == 1
        assert rows(await cli("topic", "lag", "t"))[0][3:6] == ["5", "5", "0"]
        assert rows(await cli(*reset, "--yes")) == [["0", "5", "2", "-3"]]
        assert rows(await cli("topic", "lag", "--group", "g"))[0][3:6] == ["2", "5", "3"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("1s,1m30s", {"steps": ["1s", "1m30s"]}), ("1s*1.5..5m", {"initial": "1s", "max": "5m", "multiplier": 1.5})],
)
async def test_the_policy_of_a_group_is_set_before_anybody_reads(
    tmp_path: Path, given: str, kept: dict[str, object]
) -> None:
    async with command_line(tmp_path) as (cli, _):
        await cli("group", "alter", "g", "--attempts", "5", "--backoff", given, "--rate", "100")
        group = json.loads((await cli("group", "describe", "g", "-o", "json")).stdout)
        assert (group["attempts"], group["backoff"], group["messages_per_second"]) == (5, kept, 100)
        assert rows(await cli("group", "list")) == [["g", "-", "0", "0", "0", "0", "0.0", "5"]]
        assert "attempts: 5\n" in (await cli("group", "describe", "g")).stdout
        assert "g is forgotten." in (await cli("group", "delete", "g", "--yes")).stdout
        assert rows(await cli("group", "list")) == []


async def test_dead_letters_are_listed_sent_again_and_dropped(tmp_path: Path) -> None:
    async with command_line(tmp_path) as (cli, broker):
        await cli("topic", "create", "t", "--queues", "1")
        await publish(broker, "t", *(Message(b"body %d" % n, key=f"k{n}", properties={"n": str(n)}) for n in range(5)))
        async with Consumer(broker, "g", ["t"]) as consumer:
            batch = await anext(consumer)
            await consumer.give_up(*(replace(message, attempt=3) for message in batch), error="no such user")
        listed = json.loads((await cli("dead-letter", "list", "g", "-o", "json")).stdout)["dead_letters"]
        fields = ("offset", "original_topic", "original_queue", "original_offset", "key", "attempts", "error", "body")
        assert [listed[4][field] for field in fields] == [4, "t", 0, 4, "k4", 3, "no such user", "body 4"]
        assert listed[4]["properties"] == {"n": "4"}
        assert listed[4]["original_message_id"] == batch[4].message_id
        assert len(rows(await cli("dead-letter", "list", "g", "--offset", "3"))) == 2
        assert "1 dropped." in (await cli("dead-letter", "purge", "g", "--offset", "2", "--yes")).stdout
        assert (
            "2 resent."
            in (
                await cli("dead-letter", "resend", "g", "--offset", "0", "--offset", "4", "--rate", "1000", "--yes")
            ).stdout
        )
        again = json.loads((await cli("topic", "peek", "t", "--queue", "0", "--offset", "5", "-o", "json")).stdout)
        assert [(message["body"], message["properties"]) for message in again["messages"]] == [
            ("body 0", {"n": "0"}),
            ("body 4", {"n": "4"}),
        ]
        left = json.loads((await cli("dead-letter", "list", "g", "-o", "json")).stdout)["dead_letters"]
        assert [letter["offset"] for letter in left] == [1, 3]
        assert "2 resent." in (await cli("dead-letter", "resend", "g", "--all", answer="y\n")).stdout
        assert "0 resent." in (await cli("dead-letter", "resend", "g", "--all", "--yes")).stdout
        assert "0 dropped." in (await cli("dead-letter", "purge", "g", "--all", "--yes")).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["topic", "find", "t"], "--key or --at"),
        (["topic", "find", "t", "--at", "yesterday"], "at: give an instant"),
        (["topic", "alter", "t"], "Say what to change"),
        (["group", "alter", "g"], "Say what to change"),
        (["group", "alter", "g", "--backoff", "1s*x..5m"], "--backoff takes"),
        (
            ["group", "alter", "g", "--backoff", "soon"],
            "backoff.steps.steps.0: 'soon' is no duration: write 30s, 5m, 1h30m or 3d",
        ),
        (["topic", "alter", "t", "--retention", "soon"], "no duration"),
        (["topic", "reset", "t", "--group", "g", "--to", "yesterday"], "earliest, latest, an instant"),
        (["dead-letter", "purge", "g"], "--offset, or take --all"),
        (["dead-letter", "resend", "g", "--all", "--offset", "1"], "--offset, or take --all"),
        (["dead-letter", "list", "nobody"], "no consumer group nobody"),
        (["topic", "lag", "nothing"], "no topic nothing"),
        (["topic", "lag", "--group", "nobody"], "no consumer group nobody"),
        (["topic", "delete", "t"], "give --yes"),
        (["job", "trigger", "j", "--param", "x=NaN"], "cannot be sent as JSON"),
    ],
)
async def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    async with command_line(tmp_path) as (cli, _):
        refused = await cli(*arguments)
        assert isinstance(refused.exception, ShardcastError)
        assert words in str(refused.exception)
        assert "Value error" not in str(refused.exception)


async def test_a_topic_is_made_with_its_permissions(tmp_path: Path) -> None:
    async with command_line(tmp_path) as (cli, _):
        made = await cli("topic", "create", "archive", "--read-only", "--unreadable", "-o", "json")
        topic = json.loads(made.stdout)
        assert (topic["writable"], topic["readable"]) == (False, False)


async def test_what_the_broker_refuses_ends_with_the_exit_code_of_its_own_error(tmp_path: Path) -> None:
    async with command_line(tmp_path) as (cli, _):
        await cli("topic", "create", "t", "--queues", "1")
        refused = await cli("topic", "peek", "t", "--queue", "0", "--offset", "9")
        assert isinstance(refused.exception, OffsetOutOfRange)
        assert exit_code_of(refused.exception) is Exit.FAILED


@pytest.mark.parametrize("rate", ["inf", "nan", "-1"])
async def test_a_rate_is_a_number_that_can_be_kept(tmp_path: Path, rate: str) -> None:
    async with command_line(tmp_path) as (cli, _):
        for command in (["topic", "create"], ["topic", "alter"], ["group", "alter"]):
            assert (await cli(*command, "t", "--rate", rate)).exit_code == 2
