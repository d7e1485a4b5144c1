"""A database that cannot be used: one sentence, the right exit code, and never the password."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from admin.settings import AdminSettings
from admin.store.opening import opened
from protos.errors import BadConfiguration
from protos.exits import exit_code_of
from tests.support.admin_databases import fresh_database
from tests.support.admin_stores import utc_now

UNREACHABLE, IN_USE, CONFIGURATION = 69, 73, 78
PASSWORD = "s3cr3t-w0rd"


def start(directory: Path, url: str, *command: str) -> tuple[int, str]:
    """How an admin (or another command) with this URL ends, and what it says."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SHARDCAST_")}
    sources = str(Path(__file__).parents[3])
    ended = subprocess.run(
        [sys.executable, "-m", *(command or ("admin", "--http-port", "0", "--grpc-port", "0", "--data", "data"))],
        cwd=directory,
        env={**own, "PYTHONPATH": sources, "SHARDCAST_DATABASE__URL": url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert PASSWORD not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    return ended.returncode, ended.stderr


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql", "mariadb+pymysql"])
@pytest.mark.parametrize("command", [(), ("shardcast", "db", "upgrade")])
def test_no_server(tmp_path: Path, driver: str, command: tuple[str, ...]) -> None:
    code, said = start(tmp_path, f"{driver}://shardcast:{PASSWORD}@127.0.0.1:{free_port()}/shardcast", *command)
    assert code == UNREACHABLE, said
    assert "127.0.0.1" in said


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"oracle+oracledb://u:{PASSWORD}@h/x", "oracle is not supported; use SQLite, PostgreSQL or MariaDB"),
        (f"mssql+pyodbc://u:{PASSWORD}@h/x", "mssql is not supported"),
        (f"nosuchdatabase://u:{PASSWORD}@h/x", "nosuchdatabase"),
        (f"postgresql+nosuchdriver://u:{PASSWORD}@h/x", "nosuchdriver"),
        (f"postgresql+psycopg2://u:{PASSWORD}@h/x", "postgresql+psycopg"),
        (f"mysql://u:{PASSWORD}@h/x", "mysql+pymysql"),
        (f"postgresql+psycopg://u:{PASSWORD}@h:port/x", "port"),
        (f"{PASSWORD}", "parse"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
    ],
)
def test_a_url_of_no_use(url: str, says: str) -> None:
    with pytest.raises(BadConfiguration) as refused, opened(url, utc_now, is_embedded=False):
        pass
    said = str(refused.value)
    assert exit_code_of(refused.value) == CONFIGURATION
    assert says in said
    assert "database.url" in said
    assert PASSWORD not in said + repr(AdminSettings(database={"url": url}))


def test_an_unknown_database(tmp_path: Path, shared_database_url: str) -> None:
    for command in ((), ("shardcast", "db", "upgrade")):
        url = sa.make_url(shared_database_url).set(database="nowhere").render_as_string(hide_password=False)
        code, said = start(tmp_path, url, *command)
        assert (code, "nowhere" in said) == (CONFIGURATION, True), said


def test_a_wrong_password(tmp_path: Path, mariadb_server: str) -> None:
    with fresh_database(mariadb_server) as url:
        wrong = sa.make_url(url).set(username="somebody", password=PASSWORD).render_as_string(hide_password=False)
        code, said = start(tmp_path, wrong)
        assert (code, "Access denied" in said) == (CONFIGURATION, True), said


def test_an_unknown_user_of_postgresql(tmp_path: Path, postgresql_url: str) -> None:
    wrong = sa.make_url(postgresql_url).set(username="somebody", password=PASSWORD)
    code, said = start(tmp_path, wrong.render_as_string(hide_password=False))
    assert (code, "somebody" in said) == (CONFIGURATION, True), said


def test_a_database_without_tables(tmp_path: Path, shared_database_url: str) -> None:
    code, said = start(tmp_path, shared_database_url)
    assert (code, "shardcast db upgrade" in said) == (CONFIGURATION, True), said


@pytest.mark.parametrize(
    "spelling",
    [
        "sqlite:///books/admin.db",
        "sqlite:////{here}/books/../books/admin.db",
        "sqlite:///link.db",
        "sqlite:///linked/admin.db",
        "sqlite:///file:books/admin.db?uri=true",
    ],
)
def test_a_file_has_one_admin_however_it_is_named(tmp_path: Path, spelling: str) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "linked").symlink_to("books")
    (tmp_path / "link.db").symlink_to("books/admin.db")
    url = f"sqlite:///{tmp_path / 'books' / 'admin.db'}"
    assert (
        subprocess.run(
            [sys.executable, "-m", "shardcast", "db", "upgrade", "--url", url],
            cwd=Path(__file__).parents[3],
            check=False,
        ).returncode
        == 0
    )
    command = [sys.executable, "-m", "admin", "--data", str(tmp_path / "first"), "--http-port", "0", "--grpc-port", "0"]
    environment = {**os.environ, "SHARDCAST_DATABASE__URL": url}
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[3], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as first:
        try:
            assert first.stdout is not None
            assert b"ready" in first.stdout.readline()
            code, said = start(tmp_path, spelling.replace("/{here}", str(tmp_path)))
            assert (code, "is used by another admin" in said) == (IN_USE, True), said
        finally:
            first.kill()
