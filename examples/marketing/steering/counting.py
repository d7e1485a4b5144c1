"""Adds what the fan-out by buckets and deliverers counted to the promotions' progress."""

from typing import Annotated

from examples.marketing.messages import Counted
from examples.marketing.shop import Shop, the_shop
from examples.marketing.store import progress
from shardcast import Depends, ReceivedMessage


def count(messages: list[ReceivedMessage], shop: Annotated[Shop, Depends(the_shop)]) -> None:
    """Each message once, however often it comes."""
    with shop.database.writing() as connection:
        for message in messages:
            counted = Counted.model_validate_json(message.body)
            source = progress.Source(counted.promotion_id, counted.phase, f"{message.topic}/{message.queue}")
            counts = progress.Counts(**counted.model_dump(exclude={"promotion_id", "phase"}))
            progress.add(connection, source, range(message.offset, message.offset + 1), counts)
