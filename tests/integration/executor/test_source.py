"""Scans of real tables in SQLite, and what makes a table unfit."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.client.message import Message
from executor.errors import BadFilter, BadPlan, DatabaseUnreachable, NullKey, ScanError
from executor.model import Shard
from executor.running.context import AsyncContext, Context
from executor.sharding.cursor import Position
from executor.sharding.hash import shard_of
from executor.sharding.keys import Key
from executor.sharding.plan import Asked, Bucket, ScanPlan
from executor.sharding.scan import read_shard
from executor.sharding.stretches import Stretch
from executor.sharding.table.pages import Filtered, Hashed
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


def read_keys(engine: object, table: object, **how: object) -> object:
    def scan(context: Context) -> list[Key]:
        batches = context.scan(engine, table, **how)  # type: ignore[arg-type]
        return sorted(rows.key(index) for rows in batches for index in range(len(rows)))  # type: ignore[type-var]

    return run_local(scan).result


@pytest.mark.parametrize(
    ("column", "ids"),
    [("INTEGER PRIMARY KEY", range(-500, 1500)), ("TEXT PRIMARY KEY", [f"0{n:x}é" for n in range(2000)])],
)
@pytest.mark.parametrize("how", [{"batch": 100}, {"columns": "id"}, {"columns": ["id", "name"]}])
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


@pytest.mark.parametrize("batch", [0, -1, 1.5])
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


@pytest.mark.parametrize("is_hashed", [False, True])
def test_rows_that_come_into_a_page_while_it_is_read_push_no_other_out(engine: sa.Engine, is_hashed: bool) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(0, 100, 2))
    source, shard = TableSource(engine, "users", where="id >= 0"), Shard(0, 1)
    questions = Questions(source)
    pages = Hashed(questions, shard, 10) if is_hashed else Filtered(questions, 10)
    find_end, plan = questions.end, make_plan(source, ask(source, 1))

    def insert_behind_it(stretch: Stretch, after: Key | None, limit: int) -> tuple[Key, int] | None:
        end = find_end(stretch, after, limit)
        if end is not None:
            with engine.begin() as connection:
                connection.execute(sa.text("INSERT INTO users (id) VALUES (:id)"), {"id": int(str(end[0])) - 1})
        return end

    questions.end = insert_behind_it  # type: ignore[method-assign]
    pieces = list(read_shard(pages, plan.stretches(shard), Position(), monotonic=lambda: 0.0, first_page=10))
    found = [int(str(key)) for piece in pieces for key in piece.keys]
    assert found == sorted(set(found))
    assert set(range(0, 100, 2)) <= set(found)


def test_a_filter_about_another_table_is_refused_and_a_subquery_is_not(engine: sa.Engine) -> None:
    fill(engine, "CREATE TABLE orders (number INTEGER PRIMARY KEY, of_user INTEGER)")
    fill(engine, "INSERT INTO orders VALUES (1, 3), (2, 3), (3, 4)")
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(9))
    users, orders = (sa.Table(name, sa.MetaData(), autoload_with=engine) for name in ("users", "orders"))
    is_theirs = orders.c.of_user == users.c.id
    for way in ("hash", "ranges"):
        for condition in (sa.exists().where(is_theirs), users.c.id.in_(sa.select(orders.c.of_user))):
            keys = read_keys(engine, users, strategy=way, where=condition)
            assert keys == [3, 4]
        with pytest.raises(BadFilter, match=r"columns of orders .* use exists\(\)"):
            read_keys(engine, users, strategy=way, where=is_theirs)
    with pytest.raises(BadFilter, match="columns of users that are not the scan's"):
        read_keys(engine, "users", where=users.c.id > 3)
    with pytest.raises(BadFilter, match="not True"):
        read_keys(engine, "users", where=True)


def test_parameters_of_a_filter_are_its_own(engine: sa.Engine) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(9))
    where = sa.text("id < :upper_0 AND id <> :bucket AND id <> :most_keys").bindparams(upper_0=4, bucket=1, most_keys=7)
    assert read_keys(engine, "users", where=where, strategy="buckets", bucket=Bucket("id", 9)) == [0, 2, 3]


def test_a_table_is_scanned_whatever_it_refers_to(engine: sa.Engine) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT REFERENCES nowhere(id))", range(3))
    assert read_keys(engine, "users") == [0, 1, 2]


def test_a_key_that_is_declared_without_null_and_holds_it_is_told(engine: sa.Engine) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER, name TEXT)", [1, None])
    declared = sa.Table("users", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    with pytest.raises(NullKey):
        read_keys(engine, declared)


@pytest.mark.parametrize("how", [("sqlite://", "users"), (None, "users"), ("engine", 7)])
def test_what_is_no_engine_and_no_table_is_refused(engine: sa.Engine, how: tuple[object, object]) -> None:
    given, table = how
    with pytest.raises(InvalidArgument, match="a scan "):
        read_keys(engine if given == "engine" else given, table)


def test_a_replica_need_not_show_what_was_deleted_meanwhile(engine: sa.Engine, tmp_path: Path) -> None:
    replica = sa.create_engine(f"sqlite:///{tmp_path}/replica.db")
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(5))
    fill(replica, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(4))
    is_asked = threading.Event()
    sa.event.listen(replica, "after_cursor_execute", lambda *_: is_asked.set())
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_keys, engine, "users", replica=replica)
        assert is_asked.wait(20)
        fill(engine, "DELETE FROM users WHERE id = 4")
        assert reading.result(20) == [0, 1, 2, 3]


def test_a_filter_reads_alike_whatever_the_order_of_its_set(engine: sa.Engine) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
    name = sa.column("name", sa.String())
    texts = {TableSource(engine, "users", where=name.in_(names)).filter_text for names in (["a", "b"], ["b", "a"])}
    assert len(texts) == 1


def test_what_a_database_says_in_several_lines_is_told_in_one(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "do_connect")
    def refuse(*_: object) -> None:
        raise OSError("no route\n\tto the host")

    with pytest.raises(DatabaseUnreachable, match="cannot be read: no route to the host"):
        read_keys(engine, "users")


def test_one_range_is_not_walked_over(engine: sa.Engine) -> None:
    fill(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", range(100))
    source, asked = TableSource(engine, "users"), list[str]()
    sa.event.listen(engine, "before_cursor_execute", lambda _c, _cursor, text, *_: asked.append(text))
    plans = {total: make_plan(source, ask(source, total, "ranges")) for total in (1, 2)}
    assert (plans[1].bounds, plans[1].upper, len(plans[2].bounds)) == ((), 99, 1)
    asked.clear()
    make_plan(source, ask(source, 1, "ranges"))
    assert not any("is_wanted" in text for text in asked)
