"""A promotion as the run that sends it follows it: it rests with it, and ends with it."""

import time
from collections.abc import Callable

from examples.marketing.errors import NotFound
from examples.marketing.promotions.model import Promotion
from examples.marketing.shop import Shop
from examples.marketing.store import promotions
from shardcast import Fail, Skip

LOOK_SECONDS = 0.5
"""How old what is known of a promotion may be."""

REST_SECONDS = 0.2
IN_PLACE_SECONDS = 10.0
"""So long a shard rests with its promotion; then it gives its slot to others."""

RESTED = "the promotion rests; the steward has this run retried when it goes on"


class Course:
    """Of one promotion, for one shard. `check` raises what ends the attempt."""

    def __init__(
        self,
        shop: Shop,
        promotion_id: int,
        check: Callable[[], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises Fail where there is no such promotion."""
        self._shop = shop
        self._promotion_id = promotion_id
        self._check = check
        self._monotonic = monotonic
        self._sleep = sleep
        self._look()

    def go_on(self) -> Promotion:
        """Returns once the promotion may be sent. Raises Skip when it is over, Fail when it rests for long, and what
        `check` raises."""
        if self._monotonic() - self._seen_at >= LOOK_SECONDS:
            self._look()
        give_up_at = self._monotonic() + IN_PLACE_SECONDS
        while self._promotion.state.is_resting:
            self._check()
            if self._monotonic() >= give_up_at:
                raise Fail(RESTED)
            self._sleep(REST_SECONDS)
            self._look()
        if self._promotion.state.is_final:
            raise Skip(f"promotion {self._promotion_id} is {self._promotion.state.value}")
        return self._promotion

    def _look(self) -> None:
        self._seen_at = self._monotonic()
        try:
            with self._shop.database.reading() as connection:
                self._promotion = promotions.get(connection, self._promotion_id)
        except NotFound as error:
            raise Fail(str(error)) from error
