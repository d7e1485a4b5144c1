"""A database as the first version left it: its tables at revision 20261122_first, and rows as it wrote them."""

import json
from collections.abc import Sequence

import sqlalchemy as sa

from admin.store import schema
from tests.support.admin_factories import run_id

FIRST = "20261122_first"
MS = 1_795_338_000_000  # 2026-11-22T09:00:00Z
POLICIES = {"attempts": 3, "backoff": "linear", "initial_ms": 2_000, "max_ms": 90_000, "timeout_ms": 1_800_000}
DEFINITION = {
    "name": "push",
    "group": "promotion",
    "handler": "push",
    "trigger": {"cron": "0 0 9 * * ?", "time_zone": "Asia/Shanghai"},
    "shards": 2,
    "params": {"promotion_id": 42, "text": "ü"},
    "retry": {"attempts": 3, "backoff": "linear", "initial": "2s", "max": "1m30s"},
    "timeout": "30m",
    "overlap": "skip",
    "misfire": "fire_once",
}
TRIGGERS = {
    "at": {"at": "2026-12-01T01:00:00+00:00"},
    "every": {"every": "1h30m"},
    "manual": {"manual": True},
    "push": DEFINITION["trigger"],
    "unix": {"unix": "*/5 * * * 1-5", "time_zone": "UTC"},
}
TOKENS = [("1", "admin", "d" * 64, None), ("2", "ci", "e" * 64, "promotion")]
WAITING, RUNNING, SUCCEEDED, FAILED, CANCELLED, SKIPPED, GONE, EDITED = map(run_id, range(1, 9))

Rows = Sequence[dict[str, object]]


def write(url: str) -> None:
    """Upgrades an empty database to the first revision and fills it."""
    schema.upgrade(url, FIRST)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for table, rows in _books().items():
            _insert(connection, table, rows)
    engine.dispose()


def rows_of(url: str, table: str, order: str) -> Rows:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {table} ORDER BY {order}")).mappings()]
    engine.dispose()
    return found


def _insert(connection: sa.Connection, table: str, rows: Rows) -> None:
    connection.execute(sa.insert(sa.table(table, *map(sa.column, rows[0]))), list(rows))


def _books() -> dict[str, Rows]:
    shards = [
        _shard(WAITING, 0, state="waiting", attempt=0, term=0, reported_term=0),
        _shard(WAITING, 1, state="waiting", attempt=1, term=2, reported_term=2, holder="one", error_code="failed"),
        _shard(RUNNING, 0, state="running", holder="one", leased_until_ms=MS + 9_000, row_count=7, cursor_text="[7]"),
        _shard(
            RUNNING, 1, state="assigned", holder="two", leased_until_ms=MS + 9_000, term=4, losses=2, started_ms=None
        ),
        _shard(SUCCEEDED, 0, ended_ms=MS + 3_000, row_count=10, published=9, cursor_text='["k"]', result='{"n": 1}'),
        _shard(SUCCEEDED, 1, ended_ms=MS + 5_000, attempt=2, term=3, reported_term=3, holder_name="", result="ü" * 400),
        _shard(FAILED, 0, state="failed", ended_ms=MS + 5_000, error_code="fail", error_message="no", traceback="at ü"),
        _shard(FAILED, 1, state="lost", ended_ms=MS + 5_000, losses=100, reported_term=0, error_code="holders_lost"),
        _shard(CANCELLED, 0, state="cancelled", ended_ms=MS + 5_000),
        _shard(CANCELLED, 1, state="cancelled", attempt=0, term=0, reported_term=0, started_ms=None, ended_ms=MS + 9),
        *(_shard(SKIPPED, index, state="skipped", attempt=0, term=0, reported_term=0) for index in range(2)),
        *(_shard(run, index, ended_ms=MS + 5_000) for run in (GONE, EDITED) for index in range(2)),
    ]
    pins = [(RUNNING, "log", "abc"), (RUNNING, "plan", "{}"), (SUCCEEDED, "log", "abc")]
    return {
        "jobs": [_job(name, trigger) for name, trigger in TRIGGERS.items()],
        "runs": [
            _run(WAITING, "waiting", cause="fire", run_key=str(MS)),
            _run(
                RUNNING, "running", cause="manual", run_key="mine", started_ms=MS + 1, cancelled_ms=MS + 2, reason="why"
            ),
            _run(SUCCEEDED, "succeeded", params='{"promotion_id":43}', **_ended()),
            _run(FAILED, "failed", cause="rerun", reason="1 of 2 shards failed", **_ended()),
            _run(CANCELLED, "cancelled", cancelled_ms=MS + 3, reason="cancelled on request", **_ended()),
            _run(SKIPPED, "skipped", cause="fire", run_key="5", ended_ms=MS, reason="an earlier run has not ended"),
            _run(GONE, "succeeded", job="gone", handler="old", group_name="others", **_ended()),
            _run(EDITED, "succeeded", handler="before", policies=json.dumps({**POLICIES, "attempts": 1}), **_ended()),
        ],
        "shards": shards,
        "run_pins": [{"run_id": run, "name": name, "value": value} for run, name, value in pins],
        "tokens": [
            {"id": key, "name": name, "digest": digest, "group_name": group, "created_ms": MS}
            for key, name, digest, group in TOKENS
        ],
    }


def _ended() -> dict[str, object]:
    return {"started_ms": MS + 1_000, "ended_ms": MS + 5_000}


def _job(name: str, trigger: object) -> dict[str, object]:
    definition = {**DEFINITION, "name": name, "trigger": trigger}
    return {
        "name": name,
        "group_name": "promotion",
        "version": 3,
        "is_paused": name == "every",
        "next_fire_ms": None if name in ("every", "manual") else MS + 60_000,
        "created_ms": MS - 1_000,
        "updated_ms": MS,
        "definition": json.dumps(definition, ensure_ascii=False),
    }


def _run(key: str, state: str, **more: object) -> dict[str, object]:
    return {
        "id": key,
        "job": "push",
        "group_name": "promotion",
        "handler": "push",
        "state": state,
        "cause": "manual",
        "run_key": key,
        "fire_ms": MS,
        "total": 2,
        "params": '{"promotion_id":42,"text":"ü"}',
        "policies": json.dumps(POLICIES),
        "started_ms": None,
        "ended_ms": None,
        "cancelled_ms": None,
        "reason": "",
        **more,
    }


def _shard(run: str, index: int, **more: object) -> dict[str, object]:
    return {
        "run_id": run,
        "shard_index": index,
        "total": 2,
        "group_name": "promotion",
        "handler": "push",
        "state": "succeeded",
        "due_ms": MS,
        "attempt": 1,
        "term": 1,
        "losses": 0,
        "reported_term": 1,
        "holder": None,
        "holder_name": "name of one",
        "leased_until_ms": None,
        "started_ms": MS + 1_000,
        "ended_ms": None,
        "row_count": 0,
        "published": 0,
        "cursor_text": "",
        "done": 0,
        "done_total": 0,
        "error_code": None,
        "error_message": None,
        "traceback": None,
        "result": "",
        **more,
    }
