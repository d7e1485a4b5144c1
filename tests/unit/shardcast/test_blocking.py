"""The blocking classes, away from any broker."""

import pytest

from broker.errors import NotOpen
from shardcast import Consumer, Message, Producer


def test_a_producer_outside_its_block_is_not_open() -> None:
    with pytest.raises(NotOpen, match="producer"):
        Producer("127.0.0.1:1").publish("orders", Message(b"x"))


def test_a_consumer_outside_its_block_is_not_open() -> None:
    with pytest.raises(NotOpen, match="consumer"):
        next(Consumer("127.0.0.1:1", "group", ["orders"]))
