"""What is refused about coupons."""

from examples.marketing.errors import MarketingError


class CouponNotOffered(MarketingError):
    """Coupon {coupon_id} cannot be claimed: {reason}."""

    code = "coupon_not_offered"
    http_status = 409


class CouponExpired(MarketingError):
    """Coupon {coupon_id} has expired."""

    code = "coupon_expired"
    http_status = 409


class CouponSoldOut(MarketingError):
    """Coupon {coupon_id} is sold out."""

    code = "coupon_sold_out"
    http_status = 409


class CouponTaken(MarketingError):
    """User {user_id} has had coupon {coupon_id} already: there is one a user."""

    code = "coupon_taken"
    http_status = 409


class CouponNotUsable(MarketingError):
    """User {user_id} cannot use coupon {coupon_id}: {reason}."""

    code = "coupon_not_usable"
    http_status = 409
