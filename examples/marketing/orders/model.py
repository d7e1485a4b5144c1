"""An order as it is asked for and as it is kept."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from examples.marketing.messages import RowId

POINTS_A_PIECE = 10
"""What an order gives its user."""


class OrderState(StrEnum):
    PLACED = "placed"
    CANCELED = "canceled"


class OrderRequest(BaseModel):
    """With a coupon that the user was granted, or without."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: RowId
    product_id: RowId
    quantity: Annotated[int, Field(ge=1, le=1_000)] = 1
    coupon_id: RowId | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """`event_id` is that of its cancellation."""

    id: int
    user_id: int
    product_id: int
    quantity: int
    coupon_id: int | None
    points: int
    state: OrderState
    event_id: str | None
