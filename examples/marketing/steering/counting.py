"""Adds what the fan-out by buckets and deliverers counted to the promotions' progress."""

from typing import Annotated

from pydantic import ValidationError

from examples.marketing.messages import Counted
from examples.marketing.settings import faults
from examples.marketing.shop import Shop, the_shop
from examples.marketing.store import progress
from shardcast import Depends, Fail, ReceivedMessage


def count(messages: list[ReceivedMessage], shop: Annotated[Shop, Depends(the_shop)]) -> None:
    """Each message once, however often it comes. Raises Fail for what is none: it alone becomes a dead letter."""
    told = [_read(message) for message in messages]
    with shop.database.writing() as connection:
        for message, counted in zip(messages, told, strict=True):
            source = progress.Source(counted.promotion_id, counted.phase, f"{message.topic}/{message.queue}")
            counts = progress.Counts(**counted.model_dump(exclude={"promotion_id", "phase"}))
            progress.add(connection, source, range(message.offset, message.offset + 1), counts)


def _read(message: ReceivedMessage) -> Counted:
    try:
        return Counted.model_validate_json(message.body)
    except ValidationError as error:
        raise Fail(f"this is no Counted: {faults(error)}") from error
