"""A promotion as it is ordered and as it is kept."""

from dataclasses import dataclass
from datetime import datetime, time
from enum import StrEnum
from functools import cache
from typing import Annotated, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from examples.marketing.messages import (
    MAX_BYTES,
    MOST_ID,
    InformType,
    Line,
    Phase,
    PromotionMessage,
    PromotionType,
    Text,
)
from examples.marketing.personas.conditions import Audience
from examples.marketing.promotions.states import State


def _without_nul(text: str) -> str:
    """Which PostgreSQL keeps in no text."""
    if "\0" in text:
        raise ValueError("a text cannot have a NUL character")
    return text


_NoNul = AfterValidator(_without_nul)


class Way(StrEnum):
    """How the fan-out goes: by messages that name ranges of users, or by a job's shards."""

    BUCKETS = "buckets"
    SHARDS = "shards"


@cache
def _zones() -> frozenset[str]:
    """Looked up once: that reads hundreds of files, and promotions are read all the time."""
    return frozenset(available_timezones())


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QuietHours(_Data):
    """From `begin` to `end` nothing is delivered; what comes then waits for the end. May go over midnight."""

    begin: time
    end: time
    zone: str

    @field_validator("zone")
    @classmethod
    def _is_known(cls, zone: str) -> str:
        if zone not in _zones():
            raise ValueError(f"there is no time zone {zone!r}")
        return zone

    @field_validator("begin", "end")
    @classmethod
    def _is_of_the_zone(cls, given: time) -> time:
        if given.tzinfo is not None:
            raise ValueError("quiet hours are told by the clock of their zone, without an offset")
        return given

    @model_validator(mode="after")
    def _is_a_span(self) -> Self:
        if self.begin == self.end:
            raise ValueError("quiet hours that begin and end at the same time leave none: leave them out instead")
        return self

    @property
    def tz(self) -> ZoneInfo:
        return ZoneInfo(self.zone)


class FrequencyCap(_Data):
    """A user gets at most `most` messages, of all promotions with a cap of as many hours, in any window of so many."""

    most: Annotated[int, Field(ge=1, le=1_000)]
    hours: Annotated[int, Field(ge=1, le=24 * 30)]


class Canary(_Data):
    """This share of the users first; with more failures among them than `hold_above`, as a share, the rest waits."""

    share: Annotated[float, Field(gt=0, lt=1)]
    hold_above: Annotated[float, Field(ge=0, lt=1)] = 0.05


class Steering(_Data):
    """How a promotion is delivered; may be changed while it runs (the canary only before). `rate` is messages a second
    of all processes together."""

    rate: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    quiet: QuietHours | None = None
    cap: FrequencyCap | None = None
    canary: Canary | None = None


class CouponOrder(_Data):
    """A coupon with its stock. `is_lazy`: everybody may have one, and it is written down when the user comes for it;
    otherwise each user of the audience is granted one while the promotion is sent."""

    name: Annotated[Line, _NoNul]
    value_cents: Annotated[int, Field(ge=1, le=2**53)]
    stock: Annotated[int, Field(ge=0, le=2**53)]
    expires_at: AwareDatetime
    is_lazy: bool = True


class PromotionOrder(_Data):
    """What somebody asks to save. Without an audience it is for all users; `send_at` None: at once."""

    promotion_type: PromotionType
    main_message: Annotated[Line, _NoNul]
    message: Annotated[Text, _NoNul]
    inform_type: InformType
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    send_at: AwareDatetime | None = None
    audience: Audience | None = None
    coupon: CouponOrder | None = None
    way: Way = Way.BUCKETS
    steering: Steering = Steering()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.ends_at <= self.starts_at:
            raise ValueError("a promotion cannot end before it starts")
        if self.send_at is not None and self.send_at >= self.ends_at:
            raise ValueError("a promotion cannot be sent when it is over")
        is_designated = self.promotion_type is PromotionType.DESIGNATED_COUPON
        if is_designated != (self.audience is not None):
            raise ValueError(f"an audience goes with {PromotionType.DESIGNATED_COUPON}, and only with that")
        is_coupon = self.promotion_type in (PromotionType.PLATFORM_COUPON, PromotionType.DESIGNATED_COUPON)
        if is_coupon != (self.coupon is not None):
            raise ValueError("a coupon goes with the two promotion types that are about one, and only with those")
        if (size := self.message_of(MOST_ID).most_bytes) > MAX_BYTES:
            raise ValueError(f"a message to a user would have up to {size} bytes, and {MAX_BYTES} is the limit")
        return self

    def message_of(self, promotion_id: int) -> PromotionMessage:
        return PromotionMessage(
            promotion_id=promotion_id,
            promotion_type=self.promotion_type,
            main_message=self.main_message,
            message=self.message,
            inform_type=self.inform_type,
        )


@dataclass(frozen=True, slots=True)
class Promotion:
    """As it is kept. `first_id` to `last_id` is the range of users' ids when it was saved, `resumed_at_ms` when it last
    began or went on, `reason` why it is in its state, `audience_size` how many are meant once they are written down."""

    id: int
    version: int
    order: PromotionOrder
    state: State
    phase: Phase
    first_id: int
    last_id: int
    reason: str
    resumed_at_ms: int
    launched_at_ms: int | None
    ended_at_ms: int | None
    audience_size: int | None = None

    @property
    def goes_by_shards(self) -> bool:
        """A frozen audience is no range of ids that could be cut into buckets."""
        return self.order.way is Way.SHARDS or self.order.audience is not None

    @property
    def message(self) -> PromotionMessage:
        return self.order.message_of(self.id)


def to_ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)
