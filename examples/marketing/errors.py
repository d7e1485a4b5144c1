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
