"""Scans of every kind of key, by every strategy, in each database that is reached: each row once, by its owner."""

import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.client.message import Message
from executor.errors import ForeignRow, NullKey, ScanError, UnknownTable
from executor.running.context import Context
from executor.sharding.hash import shard_of, stable_hash
from executor.sharding.keys import Key, parts_of
from executor.sharding.plan import Bucket
from executor.sharding.stretches import Stretch
from executor.sharding.table.questions import Questions
from executor.sharding.table.source import TableSource
from executor.sharding.table.sql_hash import shard_in_sql
from executor.testing import run_local

BUCKETS = 64
TOTAL = 4

KEYS: Mapping[str, tuple[Sequence[sa.types.TypeEngine[object]], Sequence[Key]]] = {
    "integers": ([sa.BigInteger()], [*range(-50, 450), 2**63 - 1, -(2**63)]),
    "texts": ([sa.String(40)], [f"{n:x}é中 " if n % 3 else f"Ü{n}" for n in range(500)]),
    "uuids": ([sa.Uuid()], [uuid.uuid5(uuid.NAMESPACE_URL, str(n)) for n in range(500)]),
    "bytes": ([sa.LargeBinary(16)], [n.to_bytes(3, "big") + b"\x00\xff" for n in range(500)]),
    "several": ([sa.String(9), sa.Integer(), sa.Uuid()], [(f"s{n % 3}", n % 50, uuid.UUID(int=n)) for n in range(500)]),
}
WAYS: Mapping[str, Mapping[str, object]] = {
    "hash": {},
    "ranges": {"strategy": "ranges"},
    "indexed": {"bucket": Bucket("own", BUCKETS)},
    "buckets": {"strategy": "buckets", "bucket": Bucket("free", BUCKETS)},
}


@pytest.fixture
def engine(admin_database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(admin_database_url)
    yield engine
    engine.dispose()


def a_table(engine: sa.Engine, kinds: Sequence[sa.types.TypeEngine[object]], keys: Sequence[Key]) -> sa.Table:
    key = [
        sa.Column(f"k{i}", _fit(engine, kind), primary_key=True, autoincrement=False) for i, kind in enumerate(kinds)
    ]
    own, free = (sa.Column(name, sa.Integer, nullable=False) for name in ("own", "free"))
    table = sa.Table("users", sa.MetaData(), *key, own, free, mysql_charset="utf8mb4")
    table.create(engine)
    rows = [
        {f"k{i}": part for i, part in enumerate(parts_of(key))}
        | {"own": stable_hash(key) % BUCKETS, "free": n * n % BUCKETS}  # type: ignore[arg-type]
        for n, key in enumerate(keys)
    ]
    with engine.begin() as connection:
        connection.execute(sa.insert(table), rows)
    return table


def _fit(engine: sa.Engine, kind: sa.types.TypeEngine[object]) -> sa.types.TypeEngine[object]:
    if isinstance(kind, sa.LargeBinary) and engine.dialect.name == "mysql":
        return sa.VARBINARY(16)  # a BLOB is no key there
    return kind


def scanned(engine: sa.Engine, table: sa.Table | str, index: int, total: int = TOTAL, **how: object) -> list[Key]:
    def scan(context: Context) -> None:
        with context.publisher("t") as publisher:
            for users in context.scan(engine, table, batch=37, **how):  # type: ignore[arg-type]
                found.extend(users.key(i) for i in range(len(users)))
                publisher.publish([Message(b"", key="k") for _ in users], checkpoint=users.cursor)

    found: list[Key] = []
    run_local(scan, shard=(index, total))
    return found


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("way", WAYS)
def test_each_row_is_read_once(engine: sa.Engine, kind: str, way: str) -> None:
    kinds, keys = KEYS[kind]
    table = a_table(engine, kinds, keys)
    found = [scanned(engine, table, index, **WAYS[way]) for index in range(TOTAL)]
    assert sorted(key for mine in found for key in mine) == sorted(keys)  # type: ignore[type-var]
    if way in ("hash", "indexed"):
        assert all(shard_of(key, TOTAL) == index for index, mine in enumerate(found) for key in mine)  # type: ignore
    if way == "ranges":
        assert max(map(len, found)) <= 1.2 * min(map(len, found))


@pytest.mark.parametrize("way", WAYS)
def test_the_key_alone_comes_in_rows_like_those_with_more_columns(engine: sa.Engine, way: str) -> None:
    table = a_table(engine, *KEYS["integers"])

    def rows(columns: Sequence[str]) -> list[tuple[object, object]]:
        def scan(context: Context) -> list[tuple[object, object]]:
            where = sa.text("k0 <> 7")
            batches = context.scan(engine, table, where=where, columns=columns, batch=37, **WAYS[way])  # type: ignore[arg-type]
            return [(row.k0, row[0]) for batch in batches for row in batch]

        return [tuple(pair) for pair in run_local(scan, shard=(1, TOTAL)).result]  # type: ignore[attr-defined]

    assert rows(["k0"]) == rows(["k0", "own"]) != []


@pytest.mark.parametrize("way", WAYS)
def test_a_filter_holds_for_each_way(engine: sa.Engine, way: str) -> None:
    table = a_table(engine, *KEYS["integers"])
    found = [scanned(engine, table, i, where=sa.text("k0 > 100 or k0 < 0"), **WAYS[way]) for i in range(TOTAL)]
    assert sorted(key for mine in found for key in mine) == sorted(
        key for key in KEYS["integers"][1] if not 0 <= int(str(key)) <= 100
    )


def test_the_database_hashes_where_it_can(engine: sa.Engine) -> None:
    source = TableSource(engine, a_table(engine, *KEYS["several"]))
    in_sql = shard_in_sql(source.dialect, source.key[:2], 1_000)
    assert (in_sql is not None) == (engine.dialect.name != "sqlite")
    if in_sql is not None:
        with engine.connect() as connection:
            found = connection.execute(sa.select(*source.key[:2], in_sql)).all()
        assert [shard for *_, shard in found] == [shard_of((text, number), 1_000) for text, number, _ in found]


EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN ", "mysql": "EXPLAIN "}
BY_INDEX = {"sqlite": "SEARCH users USING", "postgresql": "using users_pkey", "mysql": "'range', 'PRIMARY'"}


def test_a_page_of_a_key_of_several_columns_is_found_by_its_index(engine: sa.Engine) -> None:
    kinds: Sequence[sa.types.TypeEngine[object]] = [sa.Integer(), sa.Integer()]
    table = a_table(engine, kinds, [(n // 100, n % 100) for n in range(20_000)])
    asked: list[tuple[str, object]] = []
    questions, stretch = Questions(TableSource(engine, table)), Stretch((199, 99))
    with engine.connect() as connection:
        if engine.dialect.name != "sqlite":
            connection.exec_driver_sql("ANALYZE TABLE users" if engine.dialect.name == "mysql" else "ANALYZE users")
            connection.commit()
    sa.event.listen(engine, "before_cursor_execute", lambda _c, _, text, values, *_rest: asked.append((text, values)))
    questions.rows(stretch, (100, 50), 10)
    questions.keys(stretch, (100, 50), 10)
    questions.end(stretch, (100, 50), 10)
    with engine.connect() as connection:
        for text, values in list(asked):
            plan = connection.exec_driver_sql(EXPLAIN[engine.dialect.name] + text, values).all()  # type: ignore
            assert BY_INDEX[engine.dialect.name] in str(plan), plan


def test_a_wrong_bucket_is_told(engine: sa.Engine) -> None:
    table = a_table(engine, *KEYS["integers"])
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.k0 == 7).values(own=(stable_hash(7) + 1) % BUCKETS))
    with pytest.raises(ForeignRow, match="belongs to shard"):
        scanned(engine, table, (shard_of(7, TOTAL) + 1) % TOTAL, bucket=Bucket("own", BUCKETS))


def test_a_table_that_vanishes_during_the_scan_is_told(engine: sa.Engine) -> None:
    table = a_table(engine, [sa.Integer()], range(2_000))

    def scan(context: Context) -> None:
        for _ in context.scan(engine, table, batch=5):
            table.drop(engine, checkfirst=True)

    with pytest.raises(UnknownTable, match="no table users"):
        run_local(scan)


def test_pages_come_from_a_replica_once_it_has_what_the_plan_saw(engine: sa.Engine, tmp_path: Path) -> None:
    table = a_table(engine, [sa.Integer()], range(5))
    replica = sa.create_engine(f"sqlite:///{tmp_path}/replica.db", poolclass=sa.NullPool)
    asked = threading.Event()
    sa.event.listen(replica, "after_cursor_execute", lambda *_: asked.set())
    with ThreadPoolExecutor(1) as pool:
        a_table(replica, [sa.Integer()], range(4))
        scanning = pool.submit(scanned, engine, table, 0, 1, replica=replica)
        assert asked.wait(20)
        asked.clear()
        assert asked.wait(20)  # it asks again and again, and reads nothing
        with sa.create_engine(replica.url).begin() as connection:
            connection.execute(sa.insert(table), {"k0": 4, "own": 0, "free": 0})
        assert scanning.result(20) == [0, 1, 2, 3, 4]
    with engine.begin() as connection:
        connection.execute(sa.delete(table))
        connection.execute(sa.insert(table), {"k0": 3, "own": 0, "free": 0})
    assert scanned(engine, table, 0, 1, replica=replica) == [0, 1, 2, 3]


def test_a_table_without_a_key_is_refused_and_one_with_a_double_key_too(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE bare (a INTEGER, b INTEGER)"))
        connection.execute(sa.text("INSERT INTO bare VALUES (1, 1), (1, 2), (2, 1)"))
    assert sorted(scanned(engine, "bare", 0, 1, key=["a", "b"])) == [(1, 1), (1, 2), (2, 1)]  # type: ignore[type-var]
    for key, code in ((None, "no_key"), ("a", "double_key"), (["b", "a", "c"], "unknown_column")):
        with pytest.raises(ScanError) as raised:
            scanned(engine, "bare", 0, 1, key=key)
        assert raised.value.code == code
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO bare VALUES (3, NULL)"))
    with pytest.raises(NullKey, match="Column b of bare"):
        scanned(engine, "bare", 0, 1, key=["a", "b"])


@pytest.mark.parametrize(
    "how",
    [
        {"bucket": Bucket("own", 63)},
        {"bucket": Bucket("free", 8), "strategy": "buckets"},
        {"bucket": Bucket("nothing", 8), "strategy": "buckets"},
    ],
)
def test_a_column_that_is_no_bucket_is_refused(engine: sa.Engine, how: dict[str, object]) -> None:
    table = a_table(engine, *KEYS["integers"])
    with pytest.raises(ScanError):
        scanned(engine, table, 0, **how)
