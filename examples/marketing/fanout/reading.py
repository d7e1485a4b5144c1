"""Events and buckets as they are read from their topics."""

from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from examples.marketing.messages import PromotionSaved, UserBucket
from examples.marketing.settings import faults
from examples.marketing.topics import USER_BUCKETS
from shardcast import Fail, Message

T = TypeVar("T", PromotionSaved, UserBucket)


def read(model: type[T], message: Message) -> T:
    """Raises Fail for what is none: it becomes a dead letter."""
    try:
        return model.model_validate_json(message.body)
    except ValidationError as error:
        raise Fail(f"this is no {model.__name__}: {faults(error)}") from error


def bucket_message(bucket: UserBucket) -> Message:
    """Without a key: buckets of one promotion go to all queues."""
    return Message(bucket.model_dump_json().encode(), topic=USER_BUCKETS)


def later(message: Message, topic: str, at: datetime, properties: dict[str, str]) -> Message:
    """The same message at that time (aware)."""
    return Message(message.body, key=message.key, properties=properties, topic=topic, deliver_at=at)
