"""Migrations: up, down, up again, and no difference from the tables that the code knows."""

import sqlite3

import pytest

from admin.domain.errors import SchemaOutdated
from admin.store import revision, schema
from protos.errors import BadConfiguration


@pytest.fixture
def url(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'some' / 'admin.db'}"


def test_up_down_and_up_again_leaves_the_tables_as_the_code_knows_them(admin_database_url):
    url = admin_database_url
    assert revision.current(url) is None
    schema.upgrade(url)
    assert (revision.current(url), schema.drift(url)) == (revision.NEWEST, [])
    schema.downgrade(url, "base")
    assert revision.current(url) is None
    assert schema.drift(url)
    schema.upgrade(url)
    assert schema.drift(url) == []


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(url):
    schema.upgrade(url)
    schema.upgrade(url)
    revision.check(url)


def test_an_old_or_foreign_database_is_told_from_a_current_one(url, tmp_path):
    with pytest.raises(SchemaOutdated, match="db upgrade"):
        revision.check(url)
    schema.upgrade(url)
    with sqlite3.connect(tmp_path / "some" / "admin.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    connection.close()
    with pytest.raises(SchemaOutdated, match="from_the_future"):
        revision.check(url)
    with pytest.raises(SchemaOutdated, match="from_the_future"):
        schema.upgrade(url)


@pytest.mark.parametrize("bad", ["nonsense", "nosuchdatabase://x/y"])
def test_a_url_of_no_use_is_bad_configuration(bad):
    with pytest.raises(BadConfiguration):
        schema.upgrade(bad)
