"""What executors offer: the one page that says which function answers to which job and which topic.

Start them with `shardcast executor examples.marketing.app:app`, and push consumers, in processes of their own, with
`shardcast executor examples.marketing.app:delivery`.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from examples.marketing import topics
from examples.marketing.coupons.expiry import expire_coupons
from examples.marketing.delivery import delivering, desk, failing
from examples.marketing.delivery.desk import Desk
from examples.marketing.fanout import hot_goods, sharded
from examples.marketing.fanout.launching import launch
from examples.marketing.fanout.sending_buckets import send_bucket
from examples.marketing.orders.listening import LISTENERS
from examples.marketing.shop import Shop, lifespan
from examples.marketing.steering import counting
from examples.marketing.steering.steward import steward
from examples.marketing.store.database import patient
from shardcast import Executor

BUCKETS_AT_A_TIME = 4
"""Of one process: the bounded pool."""

SHARDS_AT_A_TIME = 2
"""Of one process, whose slots are 4 unless it is set otherwise: the steward shall find one that is free."""


def marketing(lifespan: Callable[[], AbstractAsyncContextManager[Shop]]) -> Executor:
    """All but the delivery."""
    app = Executor("marketing", lifespan=lifespan)
    app.consumer(topics.PROMOTION_SAVED, group=topics.LAUNCH_GROUP, mode="offset", to=topics.USER_BUCKETS)(
        patient(launch)
    )
    app.consumer(
        topics.USER_BUCKETS,
        group=topics.BUCKET_GROUP,
        mode="offset",
        to=topics.SEND,
        slots=BUCKETS_AT_A_TIME,
    )(patient(send_bucket))
    app.consumer(topics.COUNTED, group=topics.COUNTED_GROUP, mode="offset", max_messages=1_000)(patient(counting.count))
    app.consumer(topics.FAILED, group=topics.FAILED_GROUP, mode="offset", max_messages=1_000)(
        patient(failing.keep_failures)
    )
    app.job("marketing.send", slots=SHARDS_AT_A_TIME)(sharded.send)
    app.job("marketing.resend")(sharded.resend)
    app.job("marketing.hot-goods", slots=1)(hot_goods.push_hot_goods)
    app.job("marketing.steward")(steward)
    app.job("marketing.expire-coupons")(expire_coupons)
    for group, listener in LISTENERS.items():
        app.consumer(topics.ORDER_CANCELED, group=group)(listener)
    return app


def deliveries(lifespan: Callable[[], AbstractAsyncContextManager[Desk]]) -> Executor:
    """The push consumers."""
    app = Executor("marketing-delivery", lifespan=lifespan)
    app.consumer(
        topics.SEND,
        topics.HOT_GOODS,
        topics.PARKED,
        group=topics.DELIVERY_GROUP,
        mode="offset",
        max_messages=1_000,
        to=topics.FAILED,
        slots=4,
    )(delivering.deliver)
    return app


app = marketing(lifespan)
delivery = deliveries(desk.lifespan)
