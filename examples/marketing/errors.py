"""What the marketing system refuses; each error has a stable code, which is what its HTTP API answers too."""

from shardcast import ShardcastError


class MarketingError(ShardcastError):
    """The marketing system could not do that."""

    code = "marketing_error"


class BadRequest(MarketingError):
    """{reason}"""

    code = "bad_request"
    http_status = 422


class BadSettings(MarketingError):
    """The settings in {where} cannot be used: {reason}"""

    code = "bad_settings"


class NotFound(MarketingError):
    """There is no {what} {key}."""

    code = "not_found"
    http_status = 404


class WrongState(MarketingError):
    """Promotion {promotion_id} is {state}: {verb} is not possible."""

    code = "wrong_state"
    http_status = 409


class PromotionDiffers(MarketingError):
    """The idempotency key {key!r} belongs to another promotion, {promotion_id}."""

    code = "promotion_differs"
    http_status = 409


class EmptyAudience(MarketingError):
    """The audience is nobody: no user meets it."""

    code = "empty_audience"
    http_status = 422


class NothingToResend(MarketingError):
    """No message of promotion {promotion_id} has failed since it was last sent again."""

    code = "nothing_to_resend"
    http_status = 409


class BrokerAway(MarketingError):
    """The broker does not answer: nothing was saved, try again."""

    code = "broker_away"
    http_status = 503


class TooSlow(MarketingError):
    """The database took too long: nothing was saved, try again."""

    code = "too_slow"
    http_status = 503


class SceneFailed(MarketingError):
    """The scenario cannot go on: {reason}"""

    code = "scene_failed"
