"""What has ended apart from what has not; definitions that runs refer to; several admins."""

import json
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "20261128_scheduler"
down_revision = "20261122_first"
branch_labels = None
depends_on = None

LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
LONG_BYTES = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
EXACT: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
RUN_STATES = ("waiting", "running", "succeeded", "failed", "cancelled", "skipped")
SHARD_STATES = ("waiting", "assigned", "running", "succeeded", "failed", "cancelled", "lost", "skipped")
CAUSES = ("fire", "manual", "successor", "backfill", "rerun")
MOST_RUNS = 100_000  # of the history are taken over, the newest

Rows = Sequence[Mapping[str, Any]]


def upgrade() -> None:
    old = {name: _rows(name) for name in ("jobs", "runs", "shards", "run_pins")}
    for name in ("shards", "run_pins", "runs", "jobs"):
        op.drop_table(name)
    _create_jobs()
    _create_runs()
    _create_shards()
    _create_history()
    _create_fleet()
    jobs = _move_jobs(old["jobs"])
    _move_runs(old, jobs)


def downgrade() -> None:
    """The history is lost, and what has not ended; jobs stay."""
    query = "SELECT j.name, j.group_name, j.version, j.is_paused, j.fire_ms AS next_fire_ms, j.created_ms, j.updated_ms"
    query += ", d.body AS definition FROM jobs j JOIN definitions d ON d.id = j.definition_id"
    jobs = [dict(row) for row in op.get_bind().execute(sa.text(query)).mappings()]
    for name in ("executors", "admins", "ended_runs", "run_pins", "shards", "runs", "definitions", "jobs"):
        op.drop_table(name)
    first = import_module("migrations.versions.20261122_pre_first")
    for create in (first._create_jobs, first._create_runs, first._create_run_pins, first._create_shards):
        create()
    _insert("jobs", [{**job, "is_paused": bool(job["is_paused"])} for job in jobs])


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("group_name", sa.String(100), nullable=False),
        sa.Column("definition_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.Column("fire_ms", sa.BigInteger()),
        sa.Column("due_ms", sa.BigInteger()),
        sa.Column("last_fire_ms", sa.BigInteger()),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("name", name=op.f("uq_jobs_name")),
        sqlite_autoincrement=True,
        **EXACT,
    )
    op.create_index(op.f("ix_jobs_due_ms"), "jobs", ["due_ms"])
    op.create_index(op.f("ix_jobs_group_name_name"), "jobs", ["group_name", "name"])
    op.create_table(
        "definitions",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("job", sa.String(100), nullable=False),
        sa.Column("body", LONG_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_definitions")),
        sqlite_autoincrement=True,
        **EXACT,
    )
    op.create_index(op.f("ix_definitions_job_job_id"), "definitions", ["job", "job_id"])


def _create_runs() -> None:
    op.create_table(
        "runs",
        *_of_a_run(),
        sa.Column("queued", sa.SmallInteger()),
        sa.Column("is_pinned", sa.Boolean(), nullable=False),
        sa.Column("started_ms", sa.BigInteger()),
        sa.Column("cancelled_ms", sa.BigInteger()),
        sa.Column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("job_id", "cause", "run_key", name=op.f("uq_runs_job_id_cause_run_key")),
        sqlite_with_rowid=False,
        **EXACT,
    )
    op.create_index("ix_runs_queued", "runs", ["queued", "job_id"], **_where("queued IS NOT NULL"))
    op.create_table(
        "run_pins",
        sa.Column("run_id", _uuid(), nullable=False),
        sa.Column("name", sa.String(191), nullable=False),
        sa.Column("value", LONG_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "name", name=op.f("pk_run_pins")),
        sqlite_with_rowid=False,
        **EXACT,
    )


def _create_shards() -> None:
    numbers = ("attempt", "term", "losses", "reported_term", "row_count", "published", "done", "done_total")
    small = ("attempt", "losses")
    op.create_table(
        "shards",
        sa.Column("run_id", _uuid(), nullable=False),
        sa.Column("shard_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("group_name", sa.String(100), nullable=False),
        sa.Column("handler", sa.String(100), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(64)),
        sa.Column("holder_name", sa.String(255)),
        *(
            sa.Column(name, sa.Integer() if name in small else sa.BigInteger(), nullable=False, server_default="0")
            for name in numbers
        ),
        *(sa.Column(name, sa.BigInteger()) for name in ("leased_until_ms", "deadline_ms", "started_ms", "ended_ms")),
        sa.Column("error_code", sa.String(100)),
        *(sa.Column(name, LONG_TEXT) for name in ("cursor_text", "error_message", "traceback", "result")),
        sa.PrimaryKeyConstraint("run_id", "shard_index", name=op.f("pk_shards")),
        sqlite_with_rowid=False,
        **EXACT,
    )
    op.create_index("ix_shards_waiting", "shards", ["state", "group_name", "due_ms", "handler"])
    op.create_index("ix_shards_leased", "shards", ["leased_until_ms"], **_where("leased_until_ms IS NOT NULL"))


def _create_history() -> None:
    op.create_table(
        "ended_runs",
        *_of_a_run(),
        sa.Column("started_ms", sa.BigInteger()),
        sa.Column("ended_ms", sa.BigInteger(), nullable=False),
        sa.Column("cancelled_ms", sa.BigInteger()),
        sa.Column("reason", sa.Text()),
        sa.Column("detail", LONG_BYTES),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ended_runs")),
        sa.UniqueConstraint("job_id", "cause", "run_key", name=op.f("uq_ended_runs_job_id_cause_run_key")),
        sqlite_with_rowid=False,
        **EXACT,
    )
    op.create_index(op.f("ix_ended_runs_job_id_state_id"), "ended_runs", ["job_id", "state", "id"])
    op.create_index(op.f("ix_ended_runs_state_id"), "ended_runs", ["state", "id"])


def _create_fleet() -> None:
    op.create_table(
        "admins",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_admins")),
        **EXACT,
    )
    op.create_table(
        "executors",
        sa.Column("admin_id", sa.String(36), nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("body", LONG_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("admin_id", "id", name=op.f("pk_executors")),
        **EXACT,
    )


def _of_a_run() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("id", _uuid(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("definition_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("cause", sa.SmallInteger(), nullable=False),
        sa.Column("run_key", sa.String(191)),
        sa.Column("fire_ms", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("params", LONG_TEXT),
    )


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def _uuid() -> sa.types.TypeEngine[bytes]:
    return sa.LargeBinary(16).with_variant(mysql.BINARY(16), "mysql", "mariadb")


def _move_jobs(old: Rows) -> dict[str, tuple[int, int, Mapping[str, Any]]]:
    """By name: the numbers of a job and its definition, and what it says."""
    kept: dict[str, tuple[int, int, Mapping[str, Any]]] = {}
    jobs, definitions = [], []
    for number, row in enumerate(old, 1):
        kept[row["name"]] = (number, number, json.loads(row["definition"]))
        fire_ms = row["next_fire_ms"]
        same = {name: row[name] for name in ("name", "group_name", "version", "created_ms", "updated_ms")}
        job = {"id": number, "definition_id": number, "is_paused": bool(row["is_paused"]), **same}
        jobs.append({**job, "fire_ms": fire_ms, "due_ms": fire_ms})
        definitions.append({"id": number, "job_id": number, "job": row["name"], "body": row["definition"]})
    _insert("jobs", jobs)
    _insert("definitions", definitions)
    return kept


def _move_runs(old: Mapping[str, Rows], jobs: dict[str, tuple[int, int, Mapping[str, Any]]]) -> None:
    """Of jobs that are still there, each with the definition that the job has now, and its own params."""
    shards: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in sorted(old["shards"], key=lambda row: (row["run_id"], row["shard_index"])):
        shards[row["run_id"]].append(row)
    pins: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in old["run_pins"]:
        pins[row["run_id"]][row["name"]] = row["value"]
    newest = sorted(old["runs"], key=lambda row: str(row["id"]))[-MOST_RUNS:]
    active, ended = [], []
    for row in newest:
        if row["job"] not in jobs:
            continue
        common = _run_values(row, *jobs[row["job"]])
        if row["ended_ms"] is None:
            active.append({**common, "queued": None, "is_pinned": bool(pins[row["id"]])})
        else:
            detail = _detail(row, shards[row["id"]], pins[row["id"]])
            ended.append({**common, "ended_ms": row["ended_ms"], "detail": detail})
    _insert("runs", active)
    _insert("ended_runs", ended)
    open_ids = {row["id"] for row in newest if row["ended_ms"] is None and row["job"] in jobs}
    _insert("shards", [_shard_values(row) for run_id in open_ids for row in shards[run_id]])
    moved = ({"run_id": _bytes(run_id), "name": n, "value": v} for run_id in open_ids for n, v in pins[run_id].items())
    _insert("run_pins", list(moved))


def _run_values(row: Mapping[str, Any], job_id: int, definition_id: int, _: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": _bytes(row["id"]),
        "job_id": job_id,
        "definition_id": definition_id,
        "state": 1 + RUN_STATES.index(row["state"]),
        "cause": 1 + CAUSES.index(row["cause"]),
        "run_key": None if row["run_key"] == row["id"] else row["run_key"],
        "reason": row["reason"] or None,
        **{name: row[name] for name in ("fire_ms", "total", "params", "started_ms", "cancelled_ms")},
    }


def _shard_values(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in row.items() if name not in ("run_id", "state")}
    return {**values, "run_id": _bytes(row["run_id"]), "state": 1 + SHARD_STATES.index(row["state"])}


def _detail(run: Mapping[str, Any], shards: Rows, pins: Mapping[str, str]) -> bytes:
    fields: list[object] = [_fields(row, run["ended_ms"]) for row in shards]
    text = json.dumps([*fields, pins] if pins else fields, ensure_ascii=False, separators=(",", ":")).encode()
    return text if len(text) <= 256 else zlib.compress(text)


def _fields(row: Mapping[str, Any], ended_ms: int) -> dict[str, object]:
    counters = [row["row_count"], row["published"], row["cursor_text"], row["done"], row["done_total"]]
    before = {short: row[name] for short, name in (("b", "started_ms"), ("e", "ended_ms"), ("d", "due_ms"))}
    fields: dict[str, object] = {
        "s": 1 + SHARD_STATES.index(row["state"]),
        **{short: row[name] for short, name in (("a", "attempt"), ("t", "term"), ("l", "losses"))},
        "r": row["reported_term"],
        "h": row["holder_name"] or None,
        **{short: None if ms is None else ended_ms - ms for short, ms in before.items()},
        "c": counters,
        "f": [row["error_code"], row["error_message"] or "", row["traceback"] or ""] if row["error_code"] else None,
        "v": row["result"] or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _rows(table: str) -> Rows:
    return [dict(row) for row in op.get_bind().execute(sa.text(f"SELECT * FROM {table}")).mappings()]


def _insert(table: str, rows: Rows) -> None:
    if rows:
        op.bulk_insert(sa.table(table, *(sa.column(name) for name in rows[0])), [dict(row) for row in rows])


def _bytes(run_id: str) -> bytes:
    return bytes.fromhex(run_id.replace("-", ""))
