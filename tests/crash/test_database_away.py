"""The database server goes away under admins that run, and comes back: they live, say so, and lose no fire."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.admin_processes import Installation, running_admins
from tests.support.counting_fires import APP, SOURCE, Fires
from tests.support.demo_process import wait_for
from tests.support.mariadb import mariadb_server
from tests.support.postgresql import Server, postgresql_server

LEASE_SECONDS = 2.0
JOBS = 5
CALM_SECONDS = 60.0


@dataclass
class Away:
    """A server with its database."""

    server: Server
    url: str


@contextmanager
def some_postgresql() -> Iterator[Away]:
    """Not below pytest's own directory: that is shut to the server's user whenever another pytest begins."""
    with (
        tempfile.TemporaryDirectory(prefix="shardcast-", ignore_cleanup_errors=True) as directory,
        postgresql_server(Path(directory) / "postgresql") as (server, url),
    ):
        yield Away(server, url)


@pytest.fixture(params=["postgresql", "mariadb"])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Away]:
    if request.param == "postgresql":
        with some_postgresql() as found:
            yield found
    else:
        with mariadb_server(tmp_path / "mariadb") as server:
            yield Away(server, server.url)


def refusals(installation: Installation) -> set[tuple[int, str]] | None:
    """What each admin answers, None while one still answers otherwise than with an error."""
    found: set[tuple[int, str]] = set()
    for admin in installation.admins:
        headers = {"Authorization": f"Bearer {installation.admin_token}"}
        answer = httpx.get(f"{admin.http}/api/v1/jobs", headers=headers, timeout=30, trust_env=False)
        if answer.is_success:
            return None
        found.add((answer.status_code, answer.json()["code"]))
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.proof
def test_no_fire_is_lost_while_the_database_is_away(away: Away, tmp_path: Path) -> None:
    calls = tmp_path / "calls.jsonl"
    with running_admins(tmp_path, away.url, 2, SHARDCAST_LEASE_SECONDS=str(LEASE_SECONDS)) as installation:
        installation.start_executor(APP, SOURCE, CALLS=str(calls), SHARDCAST_SLOTS="64")
        fires = Fires(installation, calls, JOBS)
        fires.begin()
        wait_for("a first call", lambda: (calls.exists() and calls.read_text().count("\n") >= JOBS) or None)
        away.server.stop()
        assert wait_for("refusals", lambda: refusals(installation)) == {(503, "store_unavailable")}
        time.sleep(LEASE_SECONDS * 1.5)  # that leases lapse meanwhile is the experiment itself
        assert all(process.is_running for process in installation.everybody())
        away.server.start()
        fires.end(CALM_SECONDS)
        count = fires.check()
        assert all(process.is_running for process in installation.everybody())
    print(count)
