"""Which errors of a database say that a transaction of limits may be done anew."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from executor.limits.sql.store import _is_conflict


class DriverError(Exception):
    """As PyMySQL and psycopg tell one."""

    def __init__(self, number: object, sqlstate: str | None) -> None:
        super().__init__(number, "no")
        self.sqlstate = sqlstate


def test_a_locked_file_is_a_conflict(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "l.db")) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        engine = sa.create_engine(f"sqlite:///{tmp_path}/l.db", connect_args={"timeout": 0})
        with engine.connect() as connection, pytest.raises(sa.exc.OperationalError) as raised:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        engine.dispose()
    assert _is_conflict(raised.value)


@pytest.mark.parametrize(
    ("number", "sqlstate", "is_conflict"),
    [
        (1020, "HY000", True),
        (1213, "40001", True),
        (1213, None, True),
        ("deadlock detected", "40P01", True),
        (1064, "42000", False),
        ("syntax error", "42601", False),
    ],
)
def test_a_conflict_is_known_by_its_number_or_its_state(
    number: object, sqlstate: str | None, is_conflict: bool
) -> None:
    assert _is_conflict(sa.exc.OperationalError("", {}, DriverError(number, sqlstate))) is is_conflict
