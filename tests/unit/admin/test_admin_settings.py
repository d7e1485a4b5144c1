"""The admin's settings: values in files, and how admins wake each other."""

from pathlib import Path

import pytest

from admin.settings import AdminSettings
from protos.errors import BadConfiguration


def test_a_nested_value_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "redis"
    secret.write_text("redis://:secret@redis:6379/0\n")
    monkeypatch.setenv("SHARDCAST_WAKEUP__REDIS_URL_FILE", str(secret))
    monkeypatch.setenv("SHARDCAST_WAKEUP__NAMESPACE", "mine")
    wakeup = AdminSettings.from_env().wakeup
    assert (wakeup.redis_url, wakeup.namespace) == ("redis://:secret@redis:6379/0", "mine")
    assert "secret" not in repr(AdminSettings.from_env())


def test_a_value_that_is_given_itself_wins_over_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "url"
    secret.write_text("sqlite:///file.db")
    monkeypatch.setenv("SHARDCAST_DATABASE__URL_FILE", str(secret))
    monkeypatch.setenv("SHARDCAST_DATABASE__URL", "sqlite:///environment.db")
    assert AdminSettings.from_env().url == "sqlite:///environment.db"


def test_a_file_that_is_not_there_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDCAST_DATABASE__URL_FILE", "/nowhere/url")
    with pytest.raises(BadConfiguration, match="/nowhere/url"):
        AdminSettings.from_env()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("REDIS_URL", "http://redis", "wakeup.redis_url: the URL of a Redis begins with"),
        ("NAMESPACE", "a b", "wakeup.namespace: "),
        ("REDIS", "redis://redis", "wakeup.redis: "),
        ("NAMESPACE_FILES", "x", "wakeup.namespace_files: "),
    ],
)
def test_what_is_not_understood_is_a_fault(monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    monkeypatch.setenv(f"SHARDCAST_WAKEUP__{name}", value)
    with pytest.raises(BadConfiguration, match=told):
        AdminSettings.from_env()


@pytest.mark.parametrize("table", ["admin = 5", "admin = [1]", "admin = [[1, 2]]", "[[admin]]\nhost = 'x'"])
def test_a_table_of_the_file_that_is_none_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    (tmp_path / "odd.toml").write_text(table)
    monkeypatch.setenv("SHARDCAST_CONFIG", str(tmp_path / "odd.toml"))
    with pytest.raises(BadConfiguration, match="admin is no table"):
        AdminSettings.from_env()


def test_more_runs_than_a_database_can_count_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDCAST_HISTORY__MAX_RUNS", str(2**63))
    with pytest.raises(BadConfiguration, match=r"history\.max_runs: "):
        AdminSettings.from_env()
