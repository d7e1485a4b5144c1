"""Several processes that meet an empty database at the same moment."""

from contextlib import ExitStack
from pathlib import Path

from admin.store import revision, schema
from shardcast.rest import RestClient
from tests.support.admin_processes import Process, new_admin
from tests.support.demo_process import wait_for

AT_ONCE = 4


def test_of_admins_that_begin_at_once_one_makes_the_tokens(shared_database_url: str, tmp_path: Path) -> None:
    schema.upgrade(shared_database_url)
    admins = [new_admin(tmp_path / f"admin-{number}", shared_database_url, {}) for number in range(AT_ONCE)]
    with ExitStack() as stack:
        for admin in admins:
            stack.callback(admin.process.kill)
            admin.process.start()
        for admin in admins:
            wait_for("an admin", admin.is_ready)
        (secret,) = [path.read_text() for path in tmp_path.glob("admin-*/data/admin.token")]
        assert len(list(tmp_path.glob("admin-*/data/*.token"))) == 2
        for admin in admins:
            with RestClient(admin.http, secret) as api:
                assert sorted(token["name"] for token in api.get("/tokens")["tokens"]) == ["admin", "executor"]


def test_upgrades_at_once_wait_for_each_other(admin_database_url: str, tmp_path: Path) -> None:
    command = ["shardcast", "db", "upgrade", "--url", admin_database_url]
    upgrades = [Process(command, {}, tmp_path / f"upgrade-{number}") for number in range(AT_ONCE)]
    for upgrade in upgrades:
        upgrade.start()
    assert [upgrade.wait() for upgrade in upgrades] == [0] * AT_ONCE, [upgrade.said() for upgrade in upgrades]
    assert {upgrade.said() for upgrade in upgrades} == {f"The schema is at {revision.NEWEST}.\n"}
    assert schema.drift(admin_database_url) == []
