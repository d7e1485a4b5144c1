"""Promotions are saved and looked at."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from examples.marketing.api.parts import MOST_ID, Id, Key, Limit, TheProducer, TheSamples, TheShop
from examples.marketing.api.views import (
    CountsView,
    FailureList,
    FailureView,
    ProgressView,
    PromotionList,
    PromotionView,
    counts_of,
)
from examples.marketing.messages import Phase
from examples.marketing.promotions.model import PromotionOrder
from examples.marketing.promotions.saving import add, save
from examples.marketing.steering.outlook import Sample, expected, outlook, total_of
from examples.marketing.store import progress, promotions, resends

router = APIRouter(tags=["promotions"])

MaybeId = Annotated[int | None, Query(ge=1, le=MOST_ID)]
After = Annotated[int | None, Query(ge=-MOST_ID, le=MOST_ID)]


@router.post("/promotions", status_code=201)
async def save_promotion(
    order: PromotionOrder,
    shop: TheShop,
    producer: TheProducer,
    response: Response,
    *,
    id: MaybeId = None,
    key: Key = None,
) -> PromotionView:
    """Saves a new promotion (201), or changes the one with that id (200), which is not launched yet. The same key: the
    same new promotion; a change needs none."""
    if id is None:
        return PromotionView.of(await add(producer, shop, order, key))
    response.status_code = 200
    return PromotionView.of(await save(producer, shop, order, id))


@router.put("/promotions/{promotion_id}")
async def change_promotion(
    promotion_id: Id, order: PromotionOrder, shop: TheShop, producer: TheProducer
) -> PromotionView:
    return PromotionView.of(await save(producer, shop, order, promotion_id))


@router.get("/promotions")
def list_promotions(shop: TheShop, limit: Limit = 50, before: MaybeId = None) -> PromotionList:
    """The newest first."""
    with shop.database.reading() as connection:
        found = promotions.newest(connection, before, limit)
    last = found[-1].id if len(found) == limit else None
    return PromotionList(promotions=[*map(PromotionView.of, found)], next_before=last)


@router.get("/promotions/{promotion_id}")
def get_promotion(promotion_id: Id, shop: TheShop) -> PromotionView:
    with shop.database.reading() as connection:
        return PromotionView.of(promotions.get(connection, promotion_id))


@router.get("/promotions/{promotion_id}/progress")
def get_progress(promotion_id: Id, shop: TheShop, samples: TheSamples) -> ProgressView:
    with shop.database.reading() as connection:
        promotion = promotions.get(connection, promotion_id)
        counts = progress.of(connection, promotion_id)
    total = total_of(counts)
    now = Sample(shop.now_ms, total.handled)
    first = Sample(promotion.launched_at_ms or now.at_ms, 0)
    seen = outlook(samples.before(promotion_id, now, first), now, expected(promotion, counts))
    return ProgressView(
        promotion_id=promotion.id,
        state=promotion.state,
        phase=promotion.phase,
        reason=promotion.reason,
        audience=promotion.audience_size,
        expected=expected(promotion, counts),
        share_done=seen.share,
        rate=seen.rate,
        eta_seconds=seen.eta_seconds,
        canary=CountsView(**counts_of(counts[Phase.CANARY])),
        **counts_of(total),
    )


@router.get("/promotions/{promotion_id}/failures")
def list_failures(promotion_id: Id, shop: TheShop, limit: Limit = 100, after: After = None) -> FailureList:
    """In the order of users."""
    with shop.database.reading() as connection:
        promotions.get(connection, promotion_id)
        found = resends.page(connection, promotion_id, after, limit)
    last = found[-1]["user_id"] if len(found) == limit else None
    return FailureList(failures=[FailureView(**row) for row in found], next_after=last)
