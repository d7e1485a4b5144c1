"""The databases that tests are given are empty, their own, and of the kind they ask for."""

import pytest
import sqlalchemy as sa

from tests.support.admin_databases import fresh_database

TEXT = "任务 🚀"


def test_a_test_gets_a_database_that_is_empty_and_takes_any_text(admin_database_url: str) -> None:
    _fill(admin_database_url)


def test_the_next_test_gets_another_one(admin_database_url: str) -> None:
    _fill(admin_database_url)


def test_a_database_is_dropped_although_it_is_in_use(shared_database_url: str) -> None:
    with fresh_database(shared_database_url) as url:
        engine = sa.create_engine(url)
        connection = engine.connect()
        connection.exec_driver_sql("CREATE TABLE words (word VARCHAR(40))")
    connection.invalidate()
    with pytest.raises(sa.exc.OperationalError):
        engine.connect()
    engine.dispose()


def _fill(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == []
        connection.execute(sa.text("CREATE TABLE words (word VARCHAR(40))"))
        connection.execute(sa.text("INSERT INTO words VALUES (:word)"), {"word": TEXT})
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT word FROM words")).scalar() == TEXT
    engine.dispose()
