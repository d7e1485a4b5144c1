"""The tables. Instants are milliseconds since the epoch; texts that are keys are short enough for every index.

What has not ended (`runs`, `shards`, `run_pins`) is small and always in motion; what has ended is one compact row of
`ended_runs` each, written once.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from admin.store.types import LONG_BYTES, LONG_TEXT, UUID, UuidBytes

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # the only type that SQLite counts up by itself
EXACT: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}  # names differ by case everywhere


def _where(condition: str) -> dict[str, Any]:
    """An index of the rows that matter, where the database can."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def _of_a_run() -> tuple[Column[Any], ...]:
    """What never changes, but for the state: of runs that have not ended, and of the others."""
    return (
        Column("id", UUID, primary_key=True),
        Column("job_id", BigInteger, nullable=False),
        Column("definition_id", BigInteger, nullable=False),
        Column("state", SmallInteger, nullable=False),
        Column("cause", SmallInteger, nullable=False),
        Column("run_key", String(191)),
        Column("fire_ms", BigInteger, nullable=False),
        Column("total", Integer, nullable=False),
        Column("params", LONG_TEXT),
    )


jobs = Table(
    "jobs",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("group_name", String(100), nullable=False),
    Column("definition_id", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("is_paused", Boolean, nullable=False),
    Column("fire_ms", BigInteger),
    Column("due_ms", BigInteger),
    Column("last_fire_ms", BigInteger),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    UniqueConstraint("name"),
    Index(None, "due_ms"),
    Index(None, "group_name", "name"),
    sqlite_autoincrement=True,
    **EXACT,
)

definitions = Table(
    "definitions",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("job_id", BigInteger, nullable=False),
    Column("job", String(100), nullable=False),
    Column("body", LONG_TEXT, nullable=False),
    Index(None, "job", "job_id"),
    sqlite_autoincrement=True,
    **EXACT,
)

runs = Table(
    "runs",
    metadata,
    *_of_a_run(),
    Column("queued", SmallInteger),
    Column("is_pinned", Boolean, nullable=False),
    Column("started_ms", BigInteger),
    Column("cancelled_ms", BigInteger),
    Column("reason", Text),
    UniqueConstraint("job_id", "cause", "run_key"),
    Index("ix_runs_queued", "queued", "job_id", **_where("queued IS NOT NULL")),
    sqlite_with_rowid=False,
    **EXACT,
)

shards = Table(
    "shards",
    metadata,
    Column("run_id", UUID, primary_key=True),
    Column("shard_index", Integer, primary_key=True, autoincrement=False),
    Column("total", Integer, nullable=False),
    Column("group_name", String(100), nullable=False),
    Column("handler", String(100), nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("term", BigInteger, nullable=False, server_default="0"),
    Column("losses", Integer, nullable=False, server_default="0"),
    Column("reported_term", BigInteger, nullable=False, server_default="0"),
    Column("holder", String(64)),
    Column("holder_name", String(255)),
    Column("leased_until_ms", BigInteger),
    Column("deadline_ms", BigInteger),
    Column("started_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("row_count", BigInteger, nullable=False, server_default="0"),
    Column("published", BigInteger, nullable=False, server_default="0"),
    Column("cursor_text", LONG_TEXT),
    Column("done", BigInteger, nullable=False, server_default="0"),
    Column("done_total", BigInteger, nullable=False, server_default="0"),
    Column("error_code", String(100)),
    Column("error_message", LONG_TEXT),
    Column("traceback", LONG_TEXT),
    Column("result", LONG_TEXT),
    Column("counts", LONG_TEXT),
    Index("ix_shards_waiting", "state", "group_name", "due_ms", "handler"),
    Index("ix_shards_leased", "leased_until_ms", **_where("leased_until_ms IS NOT NULL")),
    sqlite_with_rowid=False,
    **EXACT,
)

run_pins = Table(
    "run_pins",
    metadata,
    Column("run_id", UUID, primary_key=True),
    Column("name", String(191), primary_key=True),
    Column("value", LONG_TEXT, nullable=False),
    sqlite_with_rowid=False,
    **EXACT,
)

ended_runs = Table(
    "ended_runs",
    metadata,
    *_of_a_run(),
    Column("started_ms", BigInteger),
    Column("ended_ms", BigInteger, nullable=False),
    Column("cancelled_ms", BigInteger),
    Column("reason", Text),
    Column("detail", LONG_BYTES),  # shards and pins, see history.py
    UniqueConstraint("job_id", "cause", "run_key"),
    Index(None, "job_id", "state", "id"),
    Index(None, "state", "id"),
    sqlite_with_rowid=False,
    **EXACT,
)

admins = Table(
    "admins",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("seen_ms", BigInteger, nullable=False),
    **EXACT,
)

executors = Table(
    "executors",
    metadata,
    Column("admin_id", String(36), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("seen_ms", BigInteger, nullable=False),
    Column("body", LONG_TEXT, nullable=False),
    **EXACT,
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
    **EXACT,
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
    Column("chunk", LONG_BYTES, nullable=False),
    Index(None, "run_id", "shard_index", "number"),
    **EXACT,
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
    **EXACT,
)
