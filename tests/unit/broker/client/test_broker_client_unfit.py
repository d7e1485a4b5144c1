"""What users give by mistake is told in a sentence, and nothing of it is sent."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from broker.client import Consumer, Message, Producer
from broker.client.convert import topic_batches
from broker.client.unfit import check_batch, check_message, check_settled, checked_milliseconds
from broker.errors import BadRequest


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"body", "a shardcast.Message, not of the type bytes"),
        (Message("body"), "body of .* is bytes, not of the type str"),  # type: ignore[arg-type]
        (Message(b"", key=7), "key of .* is a str, not of the type int"),  # type: ignore[arg-type]
        (Message(b"", tag=1), "tag of .* is a str, not of the type int"),  # type: ignore[arg-type]
        (Message(b"", key="\ud800"), "key of .* has half of a character"),
        (Message(b"", properties={"n": 1}), "property 'n' of .* is a str, not of the type int"),  # type: ignore[dict-item]
        (Message(b"", properties={"n": None}), "property 'n' of .* is a str, not None"),  # type: ignore[dict-item]
        (Message(b"", properties=["n"]), "properties of .* is a mapping"),  # type: ignore[arg-type]
        (Message(b"", deliver_at=9), "deliver_at of .* is an aware datetime"),  # type: ignore[arg-type]
        (Message(b"", deliver_at=datetime(2026, 1, 1)), "has no time zone"),  # noqa: DTZ001
        (Message(b"", ordered="yes"), "ordered of .* is a bool"),  # type: ignore[arg-type]
    ],
)
def test_a_message_that_cannot_be_sent_says_what_is_wrong_with_it(message: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        topic_batches("t", [Message(b"good"), message])
    if "time zone" not in said:
        with pytest.raises(BadRequest, match=said):
            check_message(message)


@pytest.mark.parametrize("messages", [Message(b""), (Message(b"") for _ in range(2)), "text", None, {1: Message(b"")}])
def test_messages_are_a_list(messages: Any) -> None:
    with pytest.raises(BadRequest, match="messages are a list, not"):
        topic_batches("t", messages)


def test_a_topic_is_a_name() -> None:
    with pytest.raises(BadRequest, match="name is a str, not of the type int"):
        topic_batches(7, [Message(b"")])  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_one_message_is_looked_at_before_it_waits_with_others() -> None:
    with pytest.raises(BadRequest, match="body of the message is bytes"):
        await Producer("127.0.0.1:1").publish("t", Message(7))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("topics", "options", "said"),
    [
        ("orders", {}, "topics are a list of names, not 'orders'"),
        ([], {}, "at least one topic"),
        ([7], {}, "topics are a list"),
        (["t"], {"tags": "new"}, "tags are a list"),
        (["t"], {"lease": timedelta(0)}, "lease cannot be as short as 0 ms"),
        (["t"], {"lease": 30}, "lease is a timedelta, not 30"),
        (["t"], {"session_timeout": timedelta(seconds=-1)}, "session_timeout cannot be"),
        (["t"], {"start": datetime(2026, 1, 1)}, "has no time zone"),  # noqa: DTZ001
    ],
)
def test_a_consumer_is_told_what_it_cannot_read(topics: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        Consumer("127.0.0.1:1", "g", topics, **options)


def test_a_wait_is_no_number_and_not_below_zero() -> None:
    assert checked_milliseconds(timedelta(0), "after") == 0
    for wrong in (1, timedelta(milliseconds=-1)):
        with pytest.raises(BadRequest, match="after"):
            checked_milliseconds(wrong, "after")


def test_only_what_was_received_is_settled_or_committed() -> None:
    for wrong in (Message(b""), [], "x"):
        with pytest.raises(BadRequest, match="is settled, not"):
            check_settled([wrong])
        with pytest.raises(BadRequest, match="is committed, not"):
            check_batch(wrong)


@pytest.mark.parametrize(
    "given",
    [
        {"group": "half \ud800"},
        {"group": None},
        {"topics": ["half \ud800"]},
        {"tags": ["half \ud800"]},
        {"max_messages": -1},
        {"max_messages": 1 << 32},
        {"max_messages": True},
        {"max_messages": 1.5},
    ],
)
def test_a_consumer_of_what_cannot_be_sent_is_refused_at_once(given: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        Consumer("127.0.0.1:1", **{"group": "g", "topics": ["t"], **given})  # type: ignore[arg-type]
