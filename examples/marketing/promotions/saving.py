"""A promotion is saved and its event published in one transaction, over the database and the broker."""

import asyncio
import uuid
from datetime import timedelta
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from examples.marketing.errors import BadRequest, EmptyAudience, TooSlow
from examples.marketing.messages import PromotionSaved
from examples.marketing.personas import audience
from examples.marketing.promotions.model import Promotion, PromotionOrder, to_ms
from examples.marketing.shop import Shop
from examples.marketing.store import promotions
from examples.marketing.store.promotions import Draft
from examples.marketing.topics import PROMOTION_SAVED
from examples.marketing.transacting import transact
from shardcast import Message, aio

SAVE_ID, DRAFTED_AT = "save_id", "drafted_at_ms"

LATEST = timedelta(seconds=30)
"""A draft that is older is not written down any more ..."""
DECIDED_AFTER = timedelta(seconds=60)
"""... so that one which is not there by then will never be; clocks of the API's processes may differ by the rest."""


async def add(producer: aio.Producer, shop: Shop, order: PromotionOrder, key: str | None) -> Promotion:
    """Adds a promotion, once for each key: asked again with it, it gives the one that there is.

    Raises PromotionDiffers, and what `save` raises.
    """
    if key is None:
        return await save(producer, shop, order)
    if (known := await asyncio.to_thread(_known, shop, order, key)) is not None:
        return known
    try:
        return await save(producer, shop, order, key=key)
    except IntegrityError:  # the same key, at the same time
        if (known := await asyncio.to_thread(_known, shop, order, key)) is None:
            raise
        return known


async def save(
    producer: aio.Producer,
    shop: Shop,
    order: PromotionOrder,
    promotion_id: int | None = None,
    *,
    key: str | None = None,
) -> Promotion:
    """Adds a promotion (None), or changes one that is not launched; its event follows for certain.

    Reads no rows of users but the least and the greatest id, and the first of an audience. Raises BadRequest,
    EmptyAudience, NotFound, WrongState, TooSlow and BrokerAway, and IntegrityError for a key that has a promotion; then
    nothing was saved.
    """
    drafted_at_ms = shop.now_ms
    draft = await asyncio.to_thread(_draft, shop, order, promotion_id)
    message = _message(draft, order, drafted_at_ms)
    return await transact(producer, PROMOTION_SAVED, message, partial(_keep, shop, draft, order, key, drafted_at_ms))


def was_saved(shop: Shop, message: Message) -> bool | None:
    """The check back: whether that event's promotion was written down; None: it may still come to that."""
    event = PromotionSaved.model_validate_json(message.body)
    with shop.database.reading() as connection:
        if promotions.was_saved(connection, message.properties[SAVE_ID], event.promotion_id, event.version):
            return True
    age_ms = shop.now_ms - int(message.properties[DRAFTED_AT])
    return None if age_ms < DECIDED_AFTER / timedelta(milliseconds=1) else False


def _known(shop: Shop, order: PromotionOrder, key: str) -> Promotion | None:
    with shop.database.reading() as connection:
        return promotions.of_request(connection, key, order)


def _draft(shop: Shop, order: PromotionOrder, promotion_id: int | None) -> Draft:
    now = shop.clock()
    if order.ends_at <= now:
        raise BadRequest(reason="A promotion that has ended already cannot be saved.")
    if order.coupon is not None and order.coupon.expires_at <= now:
        raise BadRequest(reason="A coupon that has expired already cannot be given.")
    with shop.database.reading() as connection:
        if audience.is_nobody(connection, order.audience, now):
            raise EmptyAudience
        if promotion_id is not None:
            return promotions.draft(connection, uuid.uuid4().hex, promotion_id)
    with shop.database.writing() as connection:  # which gives it a number
        return promotions.draft(connection, uuid.uuid4().hex, None)


def _keep(shop: Shop, draft: Draft, order: PromotionOrder, key: str | None, drafted_at_ms: int) -> Promotion:
    def change(connection: Connection) -> Promotion:
        kept = promotions.keep(connection, draft, order, key=key, now_ms=shop.now_ms)
        if shop.now_ms - drafted_at_ms > LATEST / timedelta(milliseconds=1):
            raise TooSlow
        return kept

    def find(connection: Connection) -> Promotion | None:
        is_kept = promotions.was_saved(connection, draft.save_id, draft.promotion_id, draft.version)
        return promotions.get(connection, draft.promotion_id) if is_kept else None

    return shop.database.settle(change, find)


def _message(draft: Draft, order: PromotionOrder, drafted_at_ms: int) -> Message:
    event = PromotionSaved(
        promotion_id=draft.promotion_id,
        version=draft.version,
        phase=promotions.first_phase(order),
        first_id=draft.first_id,
        last_id=draft.last_id,
        send_at_ms=drafted_at_ms if order.send_at is None else to_ms(order.send_at),
    )
    properties = {SAVE_ID: draft.save_id, DRAFTED_AT: str(drafted_at_ms)}
    return Message(event.model_dump_json().encode(), key=str(draft.promotion_id), properties=properties)
