"""The tables. Instants are milliseconds since the epoch, money is cents."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Date, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData()

_EXACT: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}  # texts differ by case everywhere
_Number = BigInteger().with_variant(Integer, "sqlite")  # only then SQLite numbers rows by itself

users = Table(
    "users",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),  # the shop's numbers, which may be 0
    Column("name", String(100), nullable=False),
    Column("city", String(50), nullable=False),
    Column("level", String(20), nullable=False),
    Column("age", Integer, nullable=False),
    Column("last_order_on", Date),
    Column("spent_90d_cents", BigInteger, nullable=False),
    **_EXACT,
)
user_tags = Table(
    "user_tags",
    metadata,
    Column("user_id", _Number, primary_key=True),
    Column("tag", String(50), primary_key=True),
    **_EXACT,
)
promotion_ids = Table(
    "promotion_ids",  # given out: what a promotion says of itself is sent before its row is written
    metadata,
    Column("id", _Number, primary_key=True),
)
promotions = Table(
    "promotions",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("save_id", String(32), nullable=False, unique=True),  # of the save that the broker may ask about
    Column("promotion_order", JSON, nullable=False),
    Column("state", String(20), nullable=False, index=True),
    Column("phase", String(20), nullable=False),
    Column("first_id", BigInteger, nullable=False),
    Column("last_id", BigInteger, nullable=False),
    Column("audience_size", BigInteger),  # once its members are all written down
    Column("reason", Text, nullable=False),
    Column("resumed_at_ms", BigInteger, nullable=False),
    Column("launched_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger),
    Column("origin", String(100), unique=True),  # of one that a job made: the run
    Column("request_key", String(64), unique=True),  # by which the request is known when it comes again
    Column("request_digest", String(64)),  # of what was asked for then
    **_EXACT,
)
launches = Table(
    "launches",
    metadata,
    Column("promotion_id", _Number, primary_key=True),
    Column("phase", String(20), primary_key=True),
    Column("event_id", String(100), nullable=False),  # the message that launched it: another one does nothing
    Column("run_id", String(40)),
    Column("is_sent", Integer, nullable=False, default=0),  # once the run is known to have succeeded
    **_EXACT,
)
progress = Table(
    "progress",
    metadata,
    Column("promotion_id", _Number, primary_key=True),
    Column("phase", String(20), primary_key=True),
    Column("source", String(150), primary_key=True),
    Column("upto", BigInteger, nullable=False),  # of the source: what lies before is counted
    Column("covered", BigInteger, nullable=False),
    Column("published", BigInteger, nullable=False),
    Column("delivered", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("capped", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    **_EXACT,
)
audience_members = Table(
    "audience_members",
    metadata,
    Column("promotion_id", _Number, primary_key=True),
    Column("user_id", _Number, primary_key=True),
)
failures = Table(
    "failures",
    metadata,
    Column("promotion_id", _Number, primary_key=True),
    Column("user_id", _Number, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("failed_at_ms", BigInteger, nullable=False),
    Column("resend", Integer, nullable=False),  # the resend that took it; 0: none yet
    **_EXACT,
)
coupons = Table(
    "coupons",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("promotion_id", BigInteger, nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    Column("value_cents", BigInteger, nullable=False),
    Column("stock", BigInteger, nullable=False),
    Column("remaining", BigInteger, nullable=False),
    Column("is_lazy", Integer, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    **_EXACT,
)
coupon_grants = Table(
    "coupon_grants",
    metadata,
    Column("coupon_id", _Number, primary_key=True),
    Column("user_id", _Number, primary_key=True),
    Column("state", String(20), nullable=False),  # granted, used, expired
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("order_id", BigInteger),
    **_EXACT,
)
products = Table(
    "products",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("stock", BigInteger, nullable=False),
    Column("sold", BigInteger, nullable=False),
    **_EXACT,
)
orders = Table(
    "orders",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("user_id", BigInteger, nullable=False),
    Column("product_id", BigInteger, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("coupon_id", BigInteger),
    Column("points", BigInteger, nullable=False),
    Column("state", String(20), nullable=False),  # placed, canceled
    Column("event_id", String(32), unique=True),  # of its cancellation
    Column("request_key", String(64)),  # by which the user's request is known when it comes again
    UniqueConstraint("user_id", "request_key"),
    **_EXACT,
)
points = Table(
    "points",
    metadata,
    Column("user_id", _Number, primary_key=True),
    Column("balance", BigInteger, nullable=False),
)
inbox = Table(
    "inbox",
    metadata,
    Column("group_name", String(50), primary_key=True),
    Column("event_id", String(32), primary_key=True),
    **_EXACT,
)

Index("ix_failures_resend", failures.c.promotion_id, failures.c.resend, failures.c.user_id)
Index("ix_grants_state", coupon_grants.c.state, coupon_grants.c.expires_at_ms)
