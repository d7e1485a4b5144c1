"""The tables. Instants are milliseconds since the epoch; texts that are keys are short enough for every index."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from admin.store.types import MEDIUM_BYTES, UuidBytes

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

jobs = Table(
    "jobs",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("group_name", String(100), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("is_paused", Boolean, nullable=False),
    Column("next_fire_ms", BigInteger),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("definition", Text, nullable=False),
    Index(None, "next_fire_ms"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("job", String(100), nullable=False),
    Column("group_name", String(100), nullable=False),
    Column("handler", String(100), nullable=False),
    Column("state", String(16), nullable=False),
    Column("cause", String(16), nullable=False),
    Column("run_key", String(191), nullable=False),
    Column("fire_ms", BigInteger, nullable=False),
    Column("total", Integer, nullable=False),
    Column("params", Text, nullable=False),
    Column("policies", Text, nullable=False),
    Column("started_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("cancelled_ms", BigInteger),
    Column("reason", Text, nullable=False),
    UniqueConstraint("job", "cause", "run_key"),
    Index(None, "job", "state"),
    Index(None, "job", "id"),
    Index(None, "state", "id"),
)

shards = Table(
    "shards",
    metadata,
    Column("run_id", String(36), ForeignKey("runs.id"), primary_key=True),
    Column("shard_index", Integer, primary_key=True, autoincrement=False),
    Column("total", Integer, nullable=False),
    Column("group_name", String(100), nullable=False),
    Column("handler", String(100), nullable=False),
    Column("state", String(16), nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("reported_term", BigInteger, nullable=False),
    Column("holder", String(64)),
    Column("holder_name", String(255), nullable=False),
    Column("leased_until_ms", BigInteger),
    Column("started_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("row_count", BigInteger, nullable=False),
    Column("published", BigInteger, nullable=False),
    Column("cursor_text", Text, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("done_total", BigInteger, nullable=False),
    Column("error_code", String(100)),
    Column("error_message", Text),
    Column("traceback", Text),
    Column("result", Text, nullable=False),
    Index(None, "state", "group_name", "due_ms"),
    Index(None, "state", "leased_until_ms"),
)

run_pins = Table(
    "run_pins",
    metadata,
    Column("run_id", String(36), ForeignKey("runs.id"), primary_key=True),
    Column("name", String(191), primary_key=True),
    Column("value", Text, nullable=False),
)

logged_runs = Table(
    "logged_runs",
    metadata,
    Column("run_id", UuidBytes, primary_key=True),
    Column("last_number", BigInteger, nullable=False),
    Column("raw_bytes", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Index(None, "last_ms", "stored_bytes"),
)

run_logs = Table(
    "run_logs",
    metadata,
    Column("run_id", UuidBytes, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("shard_index", BigInteger, nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Column("line_count", Integer, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("raw_bytes", Integer, nullable=False),
    Column("stored_bytes", Integer, nullable=False),
    Column("chunk", MEDIUM_BYTES, nullable=False),
    Index(None, "run_id", "shard_index", "number"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("group_name", String(100)),
    Column("created_ms", BigInteger, nullable=False),
    UniqueConstraint("digest"),
)
