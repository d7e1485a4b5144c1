"""What has ended apart from what has not; definitions that runs refer to; several admins."""

import json
import re
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
    definitions = _move_jobs(old["jobs"])
    _move_runs(old, definitions)
    _insert("definitions", definitions.bodies())
    _count_on("jobs", "definitions")


def downgrade() -> None:
    """The history is lost, and what has not ended; jobs stay, without what the older version does not know: a job whose
    trigger that is becomes manual and is paused.
    """
    query = "SELECT j.name, j.group_name, j.version, j.is_paused, j.fire_ms AS next_fire_ms, j.created_ms, j.updated_ms"
    query += ", d.body AS definition FROM jobs j JOIN definitions d ON d.id = j.definition_id"
    jobs = [dict(row) for row in op.get_bind().execute(sa.text(query)).mappings()]
    for name in ("executors", "admins", "ended_runs", "run_pins", "shards", "runs", "definitions", "jobs"):
        op.drop_table(name)
    first = import_module("migrations.versions.20261122_pre_first")
    for create in (first._create_jobs, first._create_runs, first._create_run_pins, first._create_shards):
        create()
    _insert("jobs", [{**job, **_older(job)} for job in jobs])


def _older(job: Mapping[str, Any]) -> dict[str, Any]:
    form = json.loads(job["definition"])
    form.pop("overlap_limit", None)
    form["retry"] = {name: form["retry"][name] for name in ("attempts", "backoff", "initial", "max")}
    form["overlap"] = form["overlap"] if form["overlap"] in ("skip", "allow") else "skip"
    is_known = set(form["trigger"]) <= {"cron", "unix", "time_zone", "every", "at", "manual"}
    form["trigger"] = form["trigger"] if is_known else {"manual": True}
    return {
        "definition": json.dumps(form, ensure_ascii=False),
        "is_paused": bool(job["is_paused"]) or not is_known,
        "next_fire_ms": job["next_fire_ms"] if is_known else None,
    }


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


class _Definitions:
    """What jobs say, and what runs were made of: by number, each once."""

    def __init__(self) -> None:
        self.jobs: dict[str, int] = {}
        self.forms: dict[str, dict[str, Any]] = {}
        self._numbers: dict[tuple[int, str], int] = {}
        self._names: list[str] = []

    def number(self, job: str, form: Mapping[str, Any]) -> int:
        """Jobs that are gone get numbers that no job will ever have."""
        job_id = self.jobs.setdefault(job, -1 - len(self.jobs))
        body = json.dumps(form, ensure_ascii=False, separators=(",", ":"))
        if (job_id, body) not in self._numbers:
            self._numbers[job_id, body] = len(self._numbers) + 1
            self._names.append(job)
        return self._numbers[job_id, body]

    def number_of_run(self, run: Mapping[str, Any]) -> int:
        """A run has its own group, handler, retry policy and timeout; the rest is as the job has it now."""
        name, policies = run["job"], json.loads(run["policies"])
        form = self.forms.get(name) or _FORGOTTEN | {"name": name, "params": json.loads(run["params"])}
        form = {**form, "group": run["group_name"], "handler": run["handler"]}
        if _policies_of(form) != policies:
            retry = {name: policies[name] for name in ("attempts", "backoff")}
            retry |= {"initial": f"{policies['initial_ms']}ms", "max": f"{policies['max_ms']}ms"}
            timeout_ms = policies["timeout_ms"]
            form |= {"retry": retry, "timeout": None if timeout_ms is None else f"{timeout_ms}ms"}
        return self.number(name, form)

    def bodies(self) -> Rows:
        of_each = zip(self._names, self._numbers.items(), strict=True)
        return [{"id": number, "job_id": key[0], "job": job, "body": key[1]} for job, (key, number) in of_each]


_FORGOTTEN = {"trigger": {"manual": True}, "shards": 1, "overlap": "skip", "misfire": "fire_once"}
_MARKS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def _policies_of(form: Mapping[str, Any]) -> dict[str, Any] | None:
    """As runs kept them, to be compared."""
    if (retry := form.get("retry")) is None:
        return None
    return {
        "attempts": retry["attempts"],
        "backoff": retry["backoff"],
        "initial_ms": _ms_of(retry["initial"]),
        "max_ms": _ms_of(retry["max"]),
        "timeout_ms": None if form["timeout"] is None else _ms_of(form["timeout"]),
    }


def _ms_of(duration: str) -> int:
    return sum(int(count) * _MARKS[mark] for count, mark in re.findall(r"(\d+)(ms|[dhms])", duration))


def _move_jobs(old: Rows) -> _Definitions:
    definitions = _Definitions()
    jobs = []
    for number, row in enumerate(old, 1):
        name, fire_ms = row["name"], row["next_fire_ms"]
        definitions.jobs[name], definitions.forms[name] = number, json.loads(row["definition"])
        same = {name: row[name] for name in ("name", "group_name", "version", "created_ms", "updated_ms")}
        job = {"id": number, "is_paused": bool(row["is_paused"]), "fire_ms": fire_ms, "due_ms": fire_ms, **same}
        jobs.append({**job, "definition_id": definitions.number(name, definitions.forms[name])})
    _insert("jobs", jobs)
    return definitions


def _move_runs(old: Mapping[str, Rows], definitions: _Definitions) -> None:
    """Also those of jobs that are gone."""
    shards: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in sorted(old["shards"], key=lambda row: (row["run_id"], row["shard_index"])):
        shards[row["run_id"]].append(row)
    pins: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in old["run_pins"]:
        pins[row["run_id"]][row["name"]] = row["value"]
    is_open = [row for row in old["runs"] if row["ended_ms"] is None]
    has_ended = sorted((row for row in old["runs"] if row["ended_ms"] is not None), key=lambda row: str(row["id"]))
    active = [{**_run_values(row, definitions), "queued": None, "is_pinned": row["id"] in pins} for row in is_open]
    ended = []
    for row in has_ended[-MOST_RUNS:]:
        detail = _detail(row, shards[row["id"]], pins.get(row["id"], {}))
        ended.append({**_run_values(row, definitions), "ended_ms": row["ended_ms"], "detail": detail})
    _insert("runs", active)
    _insert("ended_runs", ended)
    _insert("shards", [_shard_values(row) for run in is_open for row in shards[run["id"]]])
    moved = ((run["id"], pin) for run in is_open for pin in pins.get(run["id"], {}).items())
    _insert("run_pins", [{"run_id": _bytes(run_id), "name": name, "value": value} for run_id, (name, value) in moved])


def _run_values(row: Mapping[str, Any], definitions: _Definitions) -> dict[str, Any]:
    definition_id = definitions.number_of_run(row)
    return {
        "id": _bytes(row["id"]),
        "job_id": definitions.jobs[row["job"]],
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


def _count_on(*tables: str) -> None:
    """PostgreSQL does not see numbers that it did not give itself."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in tables:
        newest = f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table} HAVING max(id) > 0"
        op.execute(newest)


def _bytes(run_id: str) -> bytes:
    return bytes.fromhex(run_id.replace("-", ""))
