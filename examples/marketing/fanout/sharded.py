"""The sharded way: each shard of a job reads its users and publishes a message for each, batch by batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Table, exists

from examples.marketing.fanout import recipients
from examples.marketing.fanout.following import LOOK_SECONDS, Course
from examples.marketing.messages import Phase
from examples.marketing.promotions.model import Promotion
from examples.marketing.shop import Shop, the_shop
from examples.marketing.store import launches, resends
from examples.marketing.store.tables import audience_members, failures, users
from examples.marketing.topics import SEND
from shardcast import Context, Depends, Fail, Skip

BATCH_USERS = 1_000


class SendParams(BaseModel):
    """Which phase of a promotion is sent."""

    promotion_id: int
    phase: Phase


class ResendParams(BaseModel):
    """Which resend of a promotion, see POST /promotions/{id}/resend."""

    promotion_id: int
    resend: int


@dataclass(frozen=True, slots=True)
class Listed:
    """Users as `column` of those rows of `table` for which `where` holds."""

    table: Table
    column: str
    where: ColumnElement[bool] | None = None


EVERYBODY = Listed(users, "id")

Choose = Callable[[Promotion, Sequence[int]], Sequence[int]]
"""Who of a batch of users gets a message."""


def all_of_them(promotion: Promotion, user_ids: Sequence[int]) -> Sequence[int]:
    return user_ids


@dataclass(frozen=True, slots=True)
class Sending:
    """What is sent to those who are listed; `resend` is the number of one, 0: it is the first time."""

    topic: str
    choose: Choose = all_of_them
    phase: Phase = Phase.REST
    resend: int = 0


def send(context: Context, params: SendParams, shop: Annotated[Shop, Depends(the_shop)]) -> None:
    """The job marketing-send. Raises Skip when the promotion is over, Fail where there is none."""

    def choose(promotion: Promotion, user_ids: Sequence[int]) -> Sequence[int]:
        user_ids = recipients.chosen(promotion, params.phase, user_ids)
        if recipients.is_eager(promotion):
            with shop.database.writing() as connection:
                return recipients.given(connection, promotion, user_ids, now_ms=shop.now_ms)
        return user_ids

    course = Course(shop, params.promotion_id, context.raise_if_cancelled)
    claim(context, shop, params.promotion_id, params.phase)
    publish(context, shop, course, whom(course.go_on()), Sending(SEND, choose, params.phase))


def resend(context: Context, params: ResendParams, shop: Annotated[Shop, Depends(the_shop)]) -> None:
    """The job marketing-resend: the messages of those failures that the resend took, again."""
    where = (failures.c.promotion_id == params.promotion_id) & (failures.c.resend == params.resend)
    course = Course(shop, params.promotion_id, context.raise_if_cancelled)
    claim(context, shop, params.promotion_id, resends.phase_of(params.resend))
    publish(context, shop, course, Listed(failures, "user_id", where), Sending(SEND, resend=params.resend))


def claim(context: Context, shop: Shop, promotion_id: int, phase: str) -> None:
    """Only one run ever sends a phase: raises Skip in another one, which somebody started by hand, or an event that
    came again after the run's Idempotency-Key was forgotten. Raises Fail where nothing launched it."""
    with shop.database.writing() as connection:
        run_id = launches.claim_run(connection, promotion_id, phase, context.run_id)
    if run_id is None:
        raise Fail(f"{phase} of promotion {promotion_id} is not launched")
    if run_id != context.run_id:
        raise Skip(f"{phase} of promotion {promotion_id} is sent by run {run_id}")


def whom(promotion: Promotion) -> Listed:
    """All users, or those who were written down: looked up by user, as there are more audiences in that table."""
    if promotion.order.audience is None:
        return EVERYBODY
    member = (audience_members.c.promotion_id == promotion.id) & (audience_members.c.user_id == users.c.id)
    return Listed(users, "id", exists().where(member))


def publish(context: Context, shop: Shop, course: Course, listed: Listed, sending: Sending) -> None:
    """This shard's part of those who are listed: each batch in one step with the scan's cursor, so exactly once."""
    with context.publisher(sending.topic) as publisher:
        for rows in context.scan(
            shop.database.engine,
            listed.table,
            strategy=shop.settings.strategy,
            where=listed.where,
            columns=[listed.column],
            batch=BATCH_USERS,
        ):
            start = 0
            while start < len(rows):
                promotion = course.go_on()
                publisher.pace = pace = _pace(promotion, context.shard.total)
                part = rows.part(start, min(start + _size(pace), len(rows)))
                chosen = sending.choose(promotion, [cast(int, row[0]) for row in part])
                messages = promotion.message.to_all(chosen, sending.phase, sending.resend)
                publisher.publish(messages, checkpoint=part.cursor)
                start += len(part)


def _pace(promotion: Promotion, shards: int) -> float | None:
    """Messages a second of one shard."""
    rate = promotion.order.steering.rate
    return None if rate is None else rate / shards


def _size(pace: float | None) -> int:
    """So many users at a time that a change of the promotion is seen soon."""
    return BATCH_USERS if pace is None else max(1, min(BATCH_USERS, int(pace * LOOK_SECONDS)))
