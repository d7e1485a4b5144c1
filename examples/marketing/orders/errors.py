"""What is refused about orders."""

from examples.marketing.errors import MarketingError


class OutOfStock(MarketingError):
    """Of product {product_id} there are not {quantity} left."""

    code = "out_of_stock"
    http_status = 409


class OrderDiffers(MarketingError):
    """The idempotency key {key!r} belongs to another order, {order_id}."""

    code = "order_differs"
    http_status = 409


class CancellationOvertaken(MarketingError):
    """Order {order_id} was cancelled by somebody else meanwhile, or this cancellation took too long: ask again."""

    code = "cancellation_overtaken"
    http_status = 409


class PointsSpent(MarketingError):
    """User {user_id} has spent the points that order {order_id} gave: {points} cannot be deducted."""

    code = "points_spent"
    http_status = 409
