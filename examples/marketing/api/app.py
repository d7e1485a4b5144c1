"""The API as an application; /docs describes it. It has no login of its own: keep it on loopback, or behind something
that has one."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI

from examples.marketing.api.bounds import Bounded
from examples.marketing.api.problems import add_handlers
from examples.marketing.api.routes import audiences, coupons, orders, promotions, steering
from examples.marketing.api.samples import Samples
from examples.marketing.orders.cancelling import was_canceled
from examples.marketing.promotions.saving import was_saved
from examples.marketing.settings import Settings
from examples.marketing.shop import Clock, Shop, opened, utc_now
from examples.marketing.topics import ORDER_CANCELED, PROMOTION_SAVED
from examples.marketing.transacting import GROUP
from shardcast import Message, aio

Check = Callable[[Shop, Message], bool | None]

ROUTERS = (promotions.router, steering.router, audiences.router, coupons.router, orders.router)
CHECKS: Mapping[str, Check] = {PROMOTION_SAVED: was_saved, ORDER_CANCELED: was_canceled}
"""By topic."""


def create_app(settings: Settings, clock: Clock = utc_now) -> FastAPI:
    """While it lives it answers the broker, too, for what processes that died left open. Its start raises Unreachable
    where there is no broker."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with opened(settings, clock) as shop:

            def check(message: Message) -> bool | None:
                return CHECKS[message.topic or ""](shop, message)

            async with aio.Producer(settings.rocketmq.name_server, group=GROUP, check=check) as producer:
                app.state.shop, app.state.producer, app.state.samples = shop, producer, Samples()
                yield

    app = FastAPI(title="Marketing", lifespan=lifespan)
    app.add_middleware(Bounded)
    add_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    return app
