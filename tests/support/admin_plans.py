"""How databases carry out the statements of the admin's stores, over a history that was made in bulk."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from admin.domain.form import form_of
from admin.store.tables import definitions, jobs, metadata, runs, shards
from tests.support.admin_factories import definition

JOBS = 5_000
ACTIVE = 20_000
TABLES = frozenset(metadata.tables)
FEW = 3_000  # rows, by a server's estimate: pages and steps of a round are shorter
_NUMBERS = {
    "sqlite": "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last}) SELECT i FROM n)",
    "postgresql": "(SELECT i FROM generate_series(0, {last}) AS g(i))",
    "mysql": "(SELECT seq AS i FROM seq_0_to_{last})",
}
_ID = {
    "sqlite": "CAST(printf('%016d', n.i) AS BLOB)",
    "postgresql": "convert_to(lpad(n.i::text, 16, '0'), 'UTF8')",
    "mysql": "LPAD(n.i, 16, '0')",
}
_TEXT = {"sqlite": "CAST(n.i AS TEXT)", "postgresql": "n.i::text", "mysql": "CAST(n.i AS CHAR)"}
_ENDED = (
    "INSERT INTO ended_runs (id, job_id, definition_id, state, cause, run_key, fire_ms, total, started_ms, ended_ms)"
    " SELECT {id}, 1 + n.i % {jobs}, 1 + n.i % {jobs}, CASE WHEN n.i % 1000 = 0 THEN 4 ELSE 3 END, 1, {text},"
    " {from_ms} + n.i, 1, {from_ms} + n.i, {from_ms} + n.i FROM {numbers} AS n"
)


def fill(engine: sa.Engine, ended: int, now_ms: int) -> None:
    """Jobs, runs that have not ended, most of them held, and so many that have, the last of them just now."""
    name = engine.dialect.name.replace("mariadb", "mysql")
    numbers = _NUMBERS[name].format(last=ended - 1)
    values = {"id": _ID[name], "text": _TEXT[name], "jobs": JOBS, "from_ms": now_ms - ended, "numbers": numbers}
    with engine.begin() as connection:
        connection.execute(definitions.insert(), [_definition(number) for number in range(1, JOBS + 1)])
        connection.execute(jobs.insert(), [_job(number, now_ms) for number in range(1, JOBS + 1)])
        connection.execute(runs.insert(), [_run(number, now_ms) for number in range(ACTIVE)])
        connection.execute(
            shards.insert(), [_shard(number, now_ms) for number in range(ACTIVE) if not _is_queued(number)]
        )
        connection.exec_driver_sql(_ENDED.format(**values).replace("%", "%" if name == "sqlite" else "%%"))
    if name == "postgresql":
        with engine.begin() as connection:
            for table in ("jobs", "definitions"):
                connection.exec_driver_sql(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {JOBS})")
    if name != "sqlite":  # which has no statistics, as in use
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            analyze = "ANALYZE" if name == "postgresql" else f"ANALYZE TABLE {', '.join(sorted(TABLES))}"
            connection.exec_driver_sql(analyze)


def name_of(number: int) -> str:
    return f"job-{number:05}"


def active_id(number: int) -> bytes:
    return b"\xff" * 8 + number.to_bytes(8, "big")


def _is_queued(number: int) -> bool:
    return number % 100 == 0


def _definition(number: int) -> dict[str, object]:
    fields = {"name": name_of(number), "group": f"group-{number % 50}", "trigger": {"every": "1h"}, "overlap": "queue"}
    body = form_of(definition(**fields))
    return {"id": number, "job_id": number, "job": name_of(number), "body": json.dumps(body)}


def _job(number: int, now_ms: int) -> dict[str, object]:
    due_ms = now_ms + 1000 * (number - 20)
    times = {"fire_ms": due_ms, "due_ms": due_ms, "created_ms": 0, "updated_ms": 0}
    values = {"name": name_of(number), "group_name": f"group-{number % 50}", "version": 1, "is_paused": False}
    return {"id": number, "definition_id": number, **values, **times}


def _run(number: int, now_ms: int) -> dict[str, object]:
    job = 1 + number % JOBS
    codes = {"state": 1 + (number % 10 > 0), "cause": 2, "total": 1, "is_pinned": False}
    queued = 1 if _is_queued(number) else None
    times = {"fire_ms": now_ms, "queued": queued, "run_key": str(number)}
    return {"id": active_id(number), "job_id": job, "definition_id": job, **codes, **times}


def _shard(number: int, now_ms: int) -> dict[str, object]:
    key = {"run_id": active_id(number), "shard_index": 0, "total": 1}
    what = {"group_name": f"group-{(1 + number % JOBS) % 50}", "handler": "push", "due_ms": now_ms - 1000}
    held = number % 10 > 0
    until_ms = now_ms + (60_000 if number % 100 != 1 else -60_000)
    lease = {"state": 3, "term": 1, "holder": "one", "leased_until_ms": until_ms} if held else {"state": 1, "term": 0}
    return {**key, **what, "holder": None, "leased_until_ms": None, **lease}


@contextmanager
def captured() -> Iterator[dict[str, Any]]:
    """All statements that any engine executes meanwhile, each with parameters it had."""
    found: dict[str, Any] = {}

    def see(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:  # noqa: PLR0917
        found[statement] = parameters[0] if many else parameters

    sa.event.listen(sa.Engine, "before_cursor_execute", see)
    try:
        yield found
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", see)


@dataclass(frozen=True)
class Scan:
    """A table, or one of its indexes, that is read from end to end, but for a limit."""

    statement: str
    table: str
    how: str


def scans(engine: sa.Engine, statement: str, parameters: Any) -> Sequence[Scan]:
    """Those of one statement."""
    if not statement.lstrip("(").upper().startswith(("SELECT", "UPDATE", "DELETE")):
        return []
    find = {"sqlite": _of_sqlite, "postgresql": _of_postgresql}.get(engine.dialect.name, _of_mysql)
    with engine.connect() as connection:
        found = list(find(connection, statement, parameters))
        connection.rollback()
    return [Scan(" ".join(statement.split()), table, how) for table, how in found if table in TABLES]


def _of_sqlite(connection: sa.Connection, statement: str, parameters: Any) -> Iterator[tuple[str, str]]:
    aliases = {"r": "runs", "s": "shards", "e": "ended_runs", "queued": "runs", "begun": "runs"}
    for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
        words = row[3].split()
        if words[0] == "SCAN":
            yield aliases.get(words[1], words[1]), row[3]


def _of_postgresql(connection: sa.Connection, statement: str, parameters: Any) -> Iterator[tuple[str, str]]:
    """Of small tables it may prefer to read all, so it is asked whether it has to; of the history whether it does."""
    yield from (found for found in _planned(connection, statement, parameters) if found[0] == "ended_runs")
    for name in ("seqscan", "hashjoin", "mergejoin"):
        connection.exec_driver_sql(f"SET LOCAL enable_{name} = off")
    yield from (found for found in _planned(connection, statement, parameters) if found[0] != "ended_runs")


def _planned(connection: sa.Connection, statement: str, parameters: Any) -> Iterator[tuple[str, str]]:
    (plans,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalars()
    waiting = [each["Plan"] for each in (json.loads(plans) if isinstance(plans, str) else plans)]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", ())
        is_whole = node["Node Type"] == "Seq Scan" or ("Index" in node["Node Type"] and "Index Cond" not in node)
        if is_whole and "Relation Name" in node:
            yield node["Relation Name"], f"{node['Node Type']} {node.get('Index Name', '')} {node.get('Filter', '')}"


def _of_mysql(connection: sa.Connection, statement: str, parameters: Any) -> Iterator[tuple[str, str]]:
    aliases = {"r": "runs", "s": "shards", "e": "ended_runs", "queued": "runs", "begun": "runs", "t": ""}
    for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).mappings():
        if row["type"] in ("ALL", "index") and int(row["rows"] or 0) > FEW:
            table = aliases.get(row["table"], row["table"]) or statement.split("STRAIGHT_JOIN ")[1].split()[0]
            yield table, f"{row['type']} {row['key']} {row['rows']} {row['Extra']}"
