"""Promotions are steered while they run."""

from fastapi import APIRouter

from examples.marketing.api.parts import Id, TheShop
from examples.marketing.api.views import PromotionView, ResendView
from examples.marketing.promotions.model import Steering
from examples.marketing.steering import verbs

router = APIRouter(prefix="/promotions/{promotion_id}", tags=["steering"])


@router.post("/pause")
def pause(promotion_id: Id, shop: TheShop) -> PromotionView:
    """What is in the topics waits."""
    return PromotionView.of(verbs.pause(shop, promotion_id))


@router.post("/resume")
def resume(promotion_id: Id, shop: TheShop) -> PromotionView:
    """One that is held because of its canaries goes on to all the others."""
    return PromotionView.of(verbs.resume(shop, promotion_id))


@router.post("/cancel")
def cancel(promotion_id: Id, shop: TheShop) -> PromotionView:
    """For good: what is in the topics is dropped."""
    return PromotionView.of(verbs.cancel(shop, promotion_id))


@router.post("/resend", status_code=202)
def resend(promotion_id: Id, shop: TheShop) -> ResendView:
    """Sends those again that failed, and only those."""
    promotion, number = verbs.resend(shop, promotion_id)
    return ResendView(resend=number, promotion=PromotionView.of(promotion))


@router.patch("/steering")
def steer(promotion_id: Id, changes: Steering, shop: TheShop) -> PromotionView:
    """Changes the fields that are given; null takes one away. Takes effect within a second."""
    return PromotionView.of(verbs.steer(shop, promotion_id, changes))
