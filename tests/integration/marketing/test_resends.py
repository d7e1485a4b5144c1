"""Failures and the resends that take them, on the databases that the system runs on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, update

from examples.marketing.messages import Phase
from examples.marketing.store import launches, progress, promotions, resends
from examples.marketing.store.database import Database
from examples.marketing.store.tables import failures


@pytest.fixture(params=["sqlite", "postgresql"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    is_sqlite = request.param == "sqlite"
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}" if is_sqlite else request.getfixturevalue("postgresql_url"))
    database.create()
    with database.writing() as connection:
        yield connection
    database.close()


def fail(connection: Connection, promotion_id: int, *user_ids: int) -> None:
    row = {"promotion_id": promotion_id, "reason": "no such phone", "failed_at_ms": 1, "resend": 0}
    connection.execute(insert(failures), [{**row, "user_id": user_id} for user_id in user_ids])


def test_a_resend_takes_what_no_other_has_taken_and_nothing_of_other_promotions(connection: Connection) -> None:
    fail(connection, 1, 5, 6)
    fail(connection, 2, 5, 7, 8)
    assert resends.take(connection, 1) == 1
    assert resends.take(connection, 1) is None
    fail(connection, 1, 9)
    connection.execute(update(failures).where(failures.c.user_id == 6).values(resend=0))  # it failed again
    assert resends.take(connection, 1) == 2
    taken = {row["user_id"]: row["resend"] for row in resends.page(connection, 1, None, 10)}
    assert taken == {5: 1, 6: 2, 9: 2}
    assert {row["resend"] for row in resends.page(connection, 2, None, 10)} == {0}
    assert progress.of(connection, 1)[Phase.REST].published == 4
    assert resends.take(connection, 2) == 1


def test_a_resend_is_unstarted_until_its_run_is_known(connection: Connection) -> None:
    promotions.claim_launch(connection, 1, Phase.REST, "event")  # whose run is not known either
    assert resends.unstarted(connection, 1) is None
    fail(connection, 1, 5)
    resends.take(connection, 1)
    assert resends.unstarted(connection, 1) == 1
    assert resends.unstarted(connection, 2) is None
    assert launches.claim_run(connection, 1, resends.phase_of(1), "run-b") == "run-b"
    assert resends.unstarted(connection, 1) is None
    launches.claim_run(connection, 1, Phase.REST, "run-a")
    assert sorted(launches.unsent(connection, 1)) == ["run-a", "run-b"]
    launches.note_sent(connection, ["run-a"])
    assert launches.unsent(connection, 1) == ["run-b"]


def test_failures_come_page_by_page(connection: Connection) -> None:
    fail(connection, 1, *range(10, 0, -1))
    first = resends.page(connection, 1, None, 4)
    assert [row["user_id"] for row in first] == [1, 2, 3, 4]
    assert [row["user_id"] for row in resends.page(connection, 1, 4, 40)] == [5, 6, 7, 8, 9, 10]
