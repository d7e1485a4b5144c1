"""Users by ranges of ids, cut into buckets of a thousand without reading a row; and which users are canaries."""

from collections.abc import Sequence

from examples.marketing.messages import UserBucket
from shardcast import stable_hash

BUCKET_IDS = 1_000
MOST_PIECES = 100
"""Of one split: the messages of one publish."""

_PARTS = 10_000  # as finely as a share counts


def ids_in(bucket: UserBucket) -> int:
    """How many ids there can be, whether they have users or not."""
    return max(0, bucket.last_id - bucket.first_id + 1)


def split(bucket: UserBucket) -> list[UserBucket]:
    """At most 100 smaller ones, of whole thousands but the last one; itself where it is one bucket, nothing of none."""
    if ids_in(bucket) <= BUCKET_IDS:
        return [bucket] if ids_in(bucket) else []
    thousands = -(-ids_in(bucket) // BUCKET_IDS)
    step = BUCKET_IDS * -(-thousands // MOST_PIECES)
    return [
        bucket.model_copy(update={"first_id": first, "last_id": min(first + step - 1, bucket.last_id)})
        for first in range(bucket.first_id, bucket.last_id + 1, step)
    ]


def is_canary(promotion_id: int, user_id: int, share: float) -> bool:
    """Whether the user is among this share of all, which are others for each promotion."""
    return stable_hash(f"{promotion_id}:{user_id}") % _PARTS < share * _PARTS


def canaries(promotion_id: int, user_ids: Sequence[int], share: float) -> list[int]:
    return [each for each in user_ids if is_canary(promotion_id, each, share)]


def others(promotion_id: int, user_ids: Sequence[int], share: float) -> list[int]:
    """Those who are no canaries."""
    return [each for each in user_ids if not is_canary(promotion_id, each, share)]
