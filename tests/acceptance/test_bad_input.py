"""Bad input gets one clear sentence and the exit code of the contract, and leaves nothing half done."""

import gzip
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff\xfe"


def shardcast(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shardcast", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_one_sentence(done: subprocess.CompletedProcess[str], exit_code: int, *words: str) -> None:
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript(
        """
        CREATE TABLE users (id INTEGER PRIMARY KEY, city TEXT);
        CREATE TABLE holes (id INTEGER); INSERT INTO holes VALUES (1), (NULL);
        CREATE TABLE twins (id TEXT); INSERT INTO twins VALUES ('a'), ('a');
        CREATE TABLE halves (id REAL); INSERT INTO halves VALUES (1.5);
        """
    )
    connection.close()
    return tmp_path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--table", "nobody"], ["nobody"]),
        (["--table", "users", "--id-column", "uid"], ["uid", "city"]),
        (["--table", "holes"], ["NULL"]),
        (["--table", "twins"], ["more than once"]),
        (["--table", "halves"], ["REAL"]),
    ],
)
def test_a_table_that_is_unfit_is_told_before_anything_starts(
    tables: Path, options: list[str], words: list[str]
) -> None:
    done = shardcast("demo", "--data", "d", "--database", "sqlite:///shop.db", *options, cwd=tables)
    assert_one_sentence(done, 66, *words)
    assert not (tables / "d" / "admin").exists()


@pytest.mark.parametrize(
    ("where", "exit_code", "words"),
    [
        ("city = ", 2, ["at character 8"]),
        ("city = 5", 2, ["column city is TEXT and cannot be compared with 5"]),
        ("town = 'Rome'", 66, ["no column town", "id, city"]),
    ],
)
def test_a_filter_that_cannot_be_used_is_told(tables: Path, where: str, exit_code: int, words: list[str]) -> None:
    options = ("--database", "sqlite:///shop.db", "--table", "users", "--where", where)
    assert_one_sentence(shardcast("demo", "--data", "d", *options, cwd=tables), exit_code, *words)
    assert not (tables / "d" / "admin").exists()


@pytest.mark.parametrize("url", ["nonsense://x", "not a url", "sqlite:///missing.db", "postgresql://u@127.0.0.1:1/x"])
def test_a_database_that_cannot_be_used_is_told(tmp_path: Path, url: str) -> None:
    assert_one_sentence(shardcast("demo", "--database", url, "--table", "users", cwd=tmp_path), 66)
    assert not list(tmp_path.iterdir()), "nothing may be left behind"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["cannot be read"]),
        (b"", ["first line"]),
        (b"a,a\n1,2\n", ["first line"]),
        (b"a,b\n1,2\n3\n", ["Row 2"]),
        (PNG, ["cannot be read"]),
        (b"id,b\n7,1\n7,2\n", ["more than once"]),
        (b"id,b\n7,1\n,2\n", ["NULL"]),
        (b"uid,b\n7,1\n", ["no column id"]),
    ],
)
def test_a_csv_that_is_unfit_is_told(tmp_path: Path, content: bytes | None, words: list[str]) -> None:
    if content is not None:
        (tmp_path / "users.csv").write_bytes(content)
    options = ["--id-column", "id"] if content and b"id" in content else []
    assert_one_sentence(shardcast("demo", "--csv", "users.csv", *options, cwd=tmp_path), 66, *words)


def test_a_gzip_file_that_breaks_off_is_told(tmp_path: Path) -> None:
    (tmp_path / "users.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 5000)[:-20])
    assert_one_sentence(shardcast("demo", "--csv", "users.csv.gz", cwd=tmp_path), 66, "users.csv.gz")


@pytest.mark.parametrize(
    "options", [["--users", "5", "--csv", "x"], ["--table", "x"], ["--users", "-1"], ["--shards", "0"]]
)
def test_options_that_do_not_fit_are_a_usage_error(tmp_path: Path, options: list[str]) -> None:
    done = shardcast("demo", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "flag"), [("broker", "--port"), ("admin", "--http-port"), ("admin", "--grpc-port")]
)
def test_a_port_in_use_is_told(tmp_path: Path, command: str, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = {"--http-port": "0", "--grpc-port": "0"} if command == "admin" else {}
        flags = [word for pair in {**ports, flag: port}.items() for word in pair]
        assert_one_sentence(_without_logs(shardcast(command, "--data", "d", *flags, cwd=tmp_path)), 73, port)


def test_a_probe_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = shardcast("executor", "shardcast.demo.app:app", "--probe-port", port, cwd=tmp_path)
        assert_one_sentence(_without_logs(done), 73, port)


def test_up_passes_on_why_a_daemon_does_not_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = ["--http-port", "0", "--grpc-port", "0", "--broker-port", port]
        assert_one_sentence(shardcast("up", "--data", "d", *flags, cwd=tmp_path), 73, port, "broker")


@pytest.mark.parametrize("command", ["broker", "admin"])
def test_a_data_directory_in_use_is_told(tmp_path: Path, command: str) -> None:
    ports = ["--port", "0"] if command == "broker" else ["--http-port", "0", "--grpc-port", "0"]
    arguments = [sys.executable, "-m", "shardcast", command, "--data", str(tmp_path / "d"), *ports]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as first:
        assert first.stdout is not None
        assert "ready" in first.stdout.readline()
        done = shardcast(command, "--data", str(tmp_path / "d"), *ports, cwd=tmp_path)
        first.terminate()
    assert_one_sentence(_without_logs(done), 73, "used by another process")
    assert first.returncode == 0


def test_a_data_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("")
    for command in (["broker"], ["up"], ["demo", "--users", "1"]):
        assert_one_sentence(_without_logs(shardcast(*command, "--data", "d", cwd=tmp_path)), 73)


def test_an_admin_that_is_away_is_told(tmp_path: Path) -> None:
    done = shardcast("job", "list", "--server", "http://127.0.0.1:1", "--token", "x", cwd=tmp_path)
    assert_one_sentence(done, 69, "127.0.0.1:1")


def test_an_executor_that_finds_no_admin_is_told(tmp_path: Path) -> None:
    away = {"SHARDCAST_ADMIN": "127.0.0.1:1", "SHARDCAST_CONNECT_SECONDS": "0.3", "SHARDCAST_TOKEN": "x"}
    done = shardcast("executor", "shardcast.demo.app:app", cwd=tmp_path, **away)
    assert_one_sentence(_without_logs(done), 69, "127.0.0.1:1")


def test_a_bad_setting_is_told(tmp_path: Path) -> None:
    assert_one_sentence(_without_logs(shardcast("broker", cwd=tmp_path, SHARDCAST_PORT="many")), 78, "port")


@pytest.mark.parametrize("app", ["no_such_module:app", "json:dumps", "json:nothing", "json"])
def test_an_app_that_is_none_is_told(tmp_path: Path, app: str) -> None:
    done = _without_logs(shardcast("executor", app, cwd=tmp_path, SHARDCAST_TOKEN="x"))
    assert_one_sentence(done, 78, app.partition(":")[0])


TWINS = """
from shardcast import Executor

app = Executor("group")
app.job("push")(lambda: None)
app.job("push")(lambda: None)
"""
MUTE = """
class Mute(Exception):
    def __str__(self):
        raise ValueError("no")

raise Mute
"""
LIFESPAN = """
from contextlib import asynccontextmanager

from shardcast import Executor

@asynccontextmanager
async def lifespan():
    raise KeyError("sesame")
    yield

app = Executor("group", lifespan=lifespan)
"""


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("mine.py", TWINS, ["HandlerExists", "handler push already"]),
        ("mine.py", MUTE, ["cannot be imported: Mute"]),
        ("mine.py", LIFESPAN, ["lifespan", "KeyError: 'sesame'"]),
        ("broker.py", "", ["broker.py", "rename it"]),
    ],
)
def test_an_app_that_cannot_be_run_is_told(tmp_path: Path, file: str, content: str, words: list[str]) -> None:
    (tmp_path / file).write_text(content)
    done = _without_logs(shardcast("executor", "mine:app", cwd=tmp_path, SHARDCAST_TOKEN="x"))
    assert_one_sentence(done, 78, *words)


def _without_logs(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """A daemon's log lines are JSON on the same stream as its last sentence."""
    plain = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("{"))
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout, plain)
