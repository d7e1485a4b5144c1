"""Users come for coupons, and see what they have."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from examples.marketing.api.parts import MOST_ID, Id, TheShop
from examples.marketing.coupons import holding, stock
from examples.marketing.coupons.model import UserCoupon

router = APIRouter(tags=["coupons"])


class Claim(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: Annotated[int, Field(ge=1, le=MOST_ID)]


@router.post("/coupons/{coupon_id}/claim", status_code=201)
def claim(coupon_id: Id, body: Claim, shop: TheShop) -> UserCoupon:
    """Gives the user a lazy coupon."""
    return shop.database.apply(lambda connection: stock.claim(connection, coupon_id, body.user_id, now_ms=shop.now_ms))


@router.get("/users/{user_id}/coupons")
def coupons_of(user_id: Id, shop: TheShop) -> Sequence[UserCoupon]:
    """Those that the user has or had, and those that the user may claim."""
    with shop.database.reading() as connection:
        return holding.of_user(connection, user_id, now_ms=shop.now_ms)
