"""Saves a promotion and is killed on the way: `python -m tests.support.dying_saver BROKER DATABASE before|after`.

Before or after its database transaction is committed; the end of the broker's transaction it never comes to.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection

from examples.marketing.messages import InformType, PromotionType
from examples.marketing.promotions.model import PromotionOrder
from examples.marketing.promotions.saving import save
from examples.marketing.settings import Settings
from examples.marketing.shop import Shop, opened, utc_now
from examples.marketing.store.database import Database
from examples.marketing.store.tables import promotions
from examples.marketing.transacting import GROUP
from shardcast import aio


class Dying(Database):
    """Takes its process along with the transaction that writes down a promotion."""

    def __init__(self, url: str, moment: str) -> None:
        super().__init__(url)
        self._moment = moment

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with super().writing() as connection:
            yield connection
            is_there = connection.execute(promotions.select()).first() is not None
            if is_there and self._moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
        if is_there:
            os.kill(os.getpid(), signal.SIGKILL)


def order() -> PromotionOrder:
    return PromotionOrder(
        promotion_type=PromotionType.PLATFORM_PROMOTION,
        main_message="Half price",
        message="Today only",
        inform_type=InformType.APP_PUSH,
        starts_at=utc_now(),
        ends_at=utc_now() + timedelta(days=1),
    )


async def die(shop: Shop, broker: str) -> None:
    async with aio.Producer(broker, group=GROUP) as producer:
        await save(producer, shop, order())


def main(broker: str, url: str, moment: str) -> None:
    with opened(Settings(database=url)) as shop:
        asyncio.run(die(replace(shop, database=Dying(url, moment)), broker))


if __name__ == "__main__":
    main(*sys.argv[1:])
