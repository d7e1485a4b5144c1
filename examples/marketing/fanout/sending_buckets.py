"""The bucket way: a bucket becomes smaller ones, or a message for each of its users."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from sqlalchemy import Connection

from examples.marketing.errors import NotFound
from examples.marketing.fanout import buckets, recipients
from examples.marketing.fanout.reading import bucket_message, later, read
from examples.marketing.messages import Counted, UserBucket
from examples.marketing.promotions.model import Promotion
from examples.marketing.promotions.states import State
from examples.marketing.shop import Shop, the_shop
from examples.marketing.store import promotions, users
from examples.marketing.topics import COUNTED, USER_BUCKETS
from shardcast import Depends, Fail, Handled, Message, ReceivedMessage

WAITS = "waits"
"""The property that says how often a bucket has waited beside other promotions' buckets."""

IN_PLACE_SECONDS = 1.0
WAIT_SECONDS = (2, 4, 8, 16, 32)
WAITED = {str(waits): waits for waits in range(len(WAIT_SECONDS))}


def send_bucket(
    message: ReceivedMessage, shop: Annotated[Shop, Depends(the_shop)]
) -> Sequence[Message] | Message | Handled:
    """What a bucket leads to: it is published in one step with that the bucket is done, so each user gets one message.

    Raises Fail for what is no bucket of a promotion.
    """
    bucket = read(UserBucket, message)
    with shop.database.reading() as connection:
        promotion = _promotion_of(connection, bucket)
        if promotion.state.is_resting:
            return _wait(connection, message, shop)
        pieces, user_ids = _looked_into(connection, promotion, bucket)
    if pieces:
        return [bucket_message(piece) for piece in pieces] + _counted(bucket, pieces, 0)
    if recipients.is_eager(promotion) and user_ids:
        with shop.database.writing() as connection:
            user_ids = recipients.given(connection, promotion, user_ids, now_ms=shop.now_ms)
    return [*promotion.message.to_all(user_ids, bucket.phase), *_counted(bucket, pieces, len(user_ids))]


def _counted(bucket: UserBucket, pieces: Sequence[UserBucket], published: int) -> list[Message]:
    """What the bucket comes past, apart from what its pieces will; told in the same step, so once."""
    covered = buckets.ids_in(bucket) - sum(map(buckets.ids_in, pieces))
    if not covered:
        return []
    counted = Counted(promotion_id=bucket.promotion_id, phase=bucket.phase, covered=covered, published=published)
    return [Message(counted.model_dump_json().encode(), topic=COUNTED)]


def _promotion_of(connection: Connection, bucket: UserBucket) -> Promotion:
    try:
        return promotions.get(connection, bucket.promotion_id)
    except NotFound as error:
        raise Fail(str(error)) from error


def _looked_into(
    connection: Connection, promotion: Promotion, bucket: UserBucket
) -> tuple[Sequence[UserBucket], Sequence[int]]:
    """What it is split into, or whom it is about."""
    if promotion.state.is_final:
        return [], []
    if buckets.ids_in(bucket) > buckets.BUCKET_IDS:
        return _split(connection, bucket), []
    page = users.ids_between(connection, bucket.first_id, bucket.last_id)
    return [], recipients.chosen(promotion, bucket.phase, page)


def _split(connection: Connection, bucket: UserBucket) -> list[UserBucket]:
    """Only as far as there are users, so that ids with wide gaps do not lead to buckets of nobody for ever."""
    extent = users.extent(connection, bucket.first_id, bucket.last_id)
    if extent is None:
        return []
    return buckets.split(bucket.model_copy(update={"first_id": extent[0], "last_id": extent[1]}))


def _wait(connection: Connection, message: ReceivedMessage, shop: Shop) -> Message | Handled:
    """In place, unless that held up the buckets of others: then it goes behind them, less often the longer it waits."""
    if not promotions.is_any(connection, State.RUNNING):
        return Handled(0, after=IN_PLACE_SECONDS)
    waits = WAITED.get(message.properties.get(WAITS, ""), 0)
    at = shop.clock() + timedelta(seconds=WAIT_SECONDS[waits])
    return later(message, USER_BUCKETS, at, {WAITS: str(min(waits + 1, len(WAIT_SECONDS) - 1))})
