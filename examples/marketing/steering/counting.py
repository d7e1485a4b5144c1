"""Adds what the fan-out by buckets and deliverers counted to the promotions' progress."""

from typing import Annotated

from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, OperationalError

from examples.marketing.messages import Counted
from examples.marketing.settings import faults
from examples.marketing.shop import Shop, the_shop
from examples.marketing.store import progress
from shardcast import Depends, Fail, ReceivedMessage

_OUT_OF_RANGE = 1690  # MariaDB's, which its driver takes for a fault in operation


def count(messages: list[ReceivedMessage], shop: Annotated[Shop, Depends(the_shop)]) -> None:
    """Each message once, however often it comes. Raises Fail for what is none: it alone becomes a dead letter."""
    told = [_read(message) for message in messages]
    try:
        with shop.database.writing() as connection:
            for message, counted in zip(messages, told, strict=True):
                _add(connection, message, counted)
    except (DataError, OperationalError) as error:  # with it a sum would be no number of the database any more
        if isinstance(error, OperationalError) and getattr(error.orig, "args", ())[:1] != (_OUT_OF_RANGE,):
            raise
        raise Fail(f"these numbers cannot be kept: {error.orig}") from error


def _add(connection: Connection, message: ReceivedMessage, counted: Counted) -> None:
    source = progress.Source(counted.promotion_id, counted.phase, f"{message.topic}/{message.queue}")
    counts = progress.Counts(**counted.model_dump(exclude={"promotion_id", "phase"}))
    progress.add(connection, source, range(message.offset, message.offset + 1), counts)


def _read(message: ReceivedMessage) -> Counted:
    try:
        return Counted.model_validate_json(message.body)
    except ValidationError as error:
        raise Fail(f"these are no numbers: {faults(error)}") from error
