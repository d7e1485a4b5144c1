"""The system's functions as demonstrations on real daemons: `shardcast demo --scenario promotion`."""

from examples.marketing.scenarios.cancelling import order_canceled
from examples.marketing.scenarios.pushing import coupon, designated, hot_goods, promotion

__all__ = ["coupon", "designated", "hot_goods", "order_canceled", "promotion"]
