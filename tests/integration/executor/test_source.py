"""Scans of real tables in SQLite, and what makes a table unfit."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.client.message import Message
from executor.errors import BadPlan, ScanError
from executor.running.context import AsyncContext, Context
from executor.sharding.hash import shard_of
from executor.sharding.plan import Asked, Bucket, ScanPlan
from executor.sharding.stretches import Stretch
from executor.sharding.table.planning import ask, make_plan
from executor.sharding.table.questions import Questions
from executor.sharding.table.source import TableSource
from executor.testing import run_local
from protos.errors import InvalidArgument


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    return sa.create_engine(f"sqlite:///{tmp_path}/users.db")


def fill(engine: sa.Engine, statement: str, rows: Sequence[object] = ()) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
        if rows:
            connection.execute(sa.text("INSERT INTO users (id, name) VALUES (:id, :id)"), [{"id": row} for row in rows])


def make_push(engine: sa.Engine, **how: object) -> object:
    def push(context: Context) -> int:
        count = 0
        with context.publisher("t") as publisher:
            for users in context.scan(engine, "users", **how):  # type: ignore[arg-type]
                publisher.publish([Message(b"", key=str(user.id)) for user in users], checkpoint=users.cursor)
                count += len(users)
        return count

    return push


@pytest.mark.parametrize(
    ("column", "ids"),
    [("INTEGER PRIMARY KEY", range(-500, 1500)), ("TEXT PRIMARY KEY", [f"0{n:x}é" for n in range(2000)])],
)
@pytest.mark.parametrize("how", [{"batch": 100}, {"columns": ["id"]}, {"columns": ["id", "name"]}])
def test_all_shards_together_publish_every_row_once(
    engine: sa.Engine, column: str, ids: Sequence[object], how: dict[str, object]
) -> None:
    fill(engine, f"CREATE TABLE users (id {column}, name TEXT)", ids)
    keys: list[str | None] = []
    for index in range(3):
        run = run_local(make_push(engine, **how), shard=(index, 3))  # type: ignore[arg-type]
        mine = [message.key for message in run.messages]
        assert all(shard_of(key, 3) == index for key in mine if key)
        assert run.result == len(mine)
        again = run_local(make_push(engine, **how), shard=(index, 3), cursor=run.cursor)  # type: ignore[arg-type]
        assert again.messages == []
        keys += mine
    assert sorted(keys, key=str) == sorted(map(str, ids))


def test_an_async_handler_scans_with_conditions(engine: sa.Engine) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(100))

    async def push(context: AsyncContext) -> list[object]:
        scan = context.scan(engine, "users", where=sa.column("id") >= 90, batch=4)
        return [user.id async for users in scan for user in users]

    assert run_local(push).result == list(range(90, 100))


def test_a_condition_as_text_stands_by_itself(engine: sa.Engine) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(10))
    source = TableSource(engine, "users", key="id", where=sa.text("name <> :name OR name = '7'").bindparams(name="3"))
    assert Questions(source).keys(Stretch(8), 4, 100) == [5, 6, 7, 8]


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_without_rows_is_refused_before_anything_is_read(engine: sa.Engine, batch: int) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(10))
    with pytest.raises(InvalidArgument, match="at least one row"):
        run_local(make_push(engine, batch=batch))  # type: ignore[arg-type]


def test_the_question_that_a_plan_asks_all_the_time_is_made_once(engine: sa.Engine) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(10))
    questions = Questions(TableSource(engine, "users", key="id", where=sa.column("id") != 3))
    asked: list[object] = []
    sa.event.listen(engine, "before_execute", lambda _, statement, *more: asked.append(statement))
    ends = [questions.end(Stretch(8), after, limit) for after, limit in ((None, 4), (3, 2), (5, 1), (6, 9), (8, 1))]
    assert ends == [(3, 3), (5, 2), (6, 1), (8, 2), None]
    assert len(asked) == 5
    assert all(statement is asked[1] for statement in asked[1:])


def test_an_empty_table_is_done_at_once(engine: sa.Engine) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
    run = run_local(make_push(engine))  # type: ignore[arg-type]
    assert (run.result, run.messages) == (0, [])
    assert run.cursor == b'{"rows":0,"published":0,"scans":{"1":{"done":true}}}'


def test_a_table_of_a_memory_database_can_be_scanned_in_a_test() -> None:
    engine = sa.create_engine("sqlite://")
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(10))
    assert run_local(make_push(engine)).result == 10  # type: ignore[arg-type]


def test_a_row_deleted_during_the_scan_is_left_out(engine: sa.Engine) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(10))
    whole = Questions(TableSource(engine, "users"))
    names = Questions(TableSource(engine, "users", columns=["name"]))
    keys = whole.keys(Stretch(9), None, 100)
    assert names.rows_of(keys)[1] == keys
    fill(engine, "DELETE FROM users WHERE id = 5")
    rows, found = whole.rows_of(keys)
    assert [row.id for row in rows] == found == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    rows, found = names.rows_of(keys)
    assert ([(*row,) for row in rows], found) == ([(str(n),) for n in found], [0, 1, 2, 3, 4, 6, 7, 8, 9])
    assert rows[5].name == "6"


@pytest.mark.parametrize(
    ("statement", "ids", "key", "code"),
    [
        ("CREATE TABLE others (id INTEGER)", [], "id", "unknown_table"),
        ("CREATE TABLE users (id INTEGER, name TEXT)", [], "user_id", "unknown_column"),
        ("CREATE TABLE users (id INTEGER, name TEXT)", [1, None], "id", "null_key"),
        ("CREATE TABLE users (id INTEGER, name TEXT)", [1, 1], "id", "double_key"),
        ("CREATE TABLE users (id REAL PRIMARY KEY, name TEXT)", [], "id", "unfit_key"),
        ("CREATE TABLE users (id PRIMARY KEY, name TEXT)", [1.5], "id", "unfit_key"),
        ("CREATE TABLE users (id PRIMARY KEY, name TEXT)", [1.5, 2], "id", "unfit_key"),
    ],
)
def test_a_table_that_is_unfit_is_refused_in_one_sentence(
    engine: sa.Engine, statement: str, ids: Sequence[object], key: str, code: str
) -> None:
    fill(engine, statement, ids)
    with pytest.raises(ScanError) as raised:
        run_local(make_push(engine, key=key))  # type: ignore[arg-type]
    assert raised.value.code == code
    assert "\n" not in str(raised.value)


def test_a_declared_table_must_exist(engine: sa.Engine) -> None:
    table = sa.Table("users", sa.MetaData(), sa.Column("id", sa.Integer))
    with pytest.raises(ScanError) as raised:
        TableSource(engine, table, key="id")
    assert raised.value.code == "unknown_table"


def test_a_database_that_cannot_be_read_is_told_without_its_password() -> None:
    engine = sa.create_engine("postgresql+psycopg://me:secret@127.0.0.1:1/db")
    with pytest.raises(ScanError) as raised:
        TableSource(engine, "users", key="id")
    assert raised.value.code == "database_unreachable"
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "other",
    [
        {"total": 4},
        {"strategy": "ranges"},
        {"bucket": Bucket("name", 8)},
        {"where": None},
        {"where": sa.column("id") > 2},
        {"key": ["id", "name"]},
    ],
)
def test_a_plan_is_kept_as_text_and_holds_its_run_to_it(engine: sa.Engine, other: dict[str, object]) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(10))

    def asked(
        total: int = 8, where: sa.ColumnElement[bool] | None = None, key: Sequence[str] = ("id",), **how: object
    ) -> Asked:
        return ask(TableSource(engine, "users", key=key, where=where), total, **how)  # type: ignore[arg-type]

    began = asked(where=sa.column("id") > 3)
    plan = make_plan(TableSource(engine, "users"), began)
    assert plan == ScanPlan(began, 9)
    assert ScanPlan.decode(plan.encode()) == plan
    plan.check(began)
    with pytest.raises(BadPlan):
        plan.check(asked(**{"where": sa.column("id") > 3} | other))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"table":"t","key":["id"],"total":8,"upper":1,"strategy":"odd"}'])
def test_a_plan_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(BadPlan):
        ScanPlan.decode(text)


def test_uniqueness_that_the_database_keeps_is_not_counted_again(engine: sa.Engine) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER, name TEXT)")
    source = TableSource(engine, "users", key="id")
    for statement, is_unique in [
        ("CREATE UNIQUE INDEX partly ON users (id) WHERE id > 5", False),
        ("CREATE UNIQUE INDEX both ON users (id, name)", False),
        ("CREATE UNIQUE INDEX whole ON users (id)", True),
    ]:
        fill(engine, statement)
        with source.connect() as connection:
            assert source.is_unique(connection) is is_unique
