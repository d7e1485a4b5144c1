"""Settings, and what a start that fails says."""

from pathlib import Path

import pytest

from broker.__main__ import main
from broker.settings import BrokerSettings
from protos.errors import BadConfiguration


def test_without_access_keys_it_listens_on_loopback_only() -> None:
    with pytest.raises(BadConfiguration, match="needs access_keys"):
        BrokerSettings.from_env(host="0.0.0.0")
    assert BrokerSettings.from_env(host="0.0.0.0", insecure=True).insecure
    assert BrokerSettings.from_env(host="0.0.0.0", access_keys=("k",)).access_keys
    assert BrokerSettings.from_env(host="::1").host == "::1"


def test_a_bad_port_ends_with_78(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--port", "70000"])
    assert ended.value.code == 78
    assert capsys.readouterr().err.count("\n") == 1


def test_a_directory_that_is_a_file_ends_with_73(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        main(["--data", str(tmp_path / "file"), "--port", "0"])
    assert ended.value.code == 73
    assert "cannot be used" in capsys.readouterr().err


def test_a_file_that_was_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "settings.toml"
    monkeypatch.setenv("SHARDCAST_CONFIG", str(named))
    with pytest.raises(BadConfiguration, match=r"SHARDCAST_CONFIG names .*, which is no file"):
        BrokerSettings.from_env()
    named.write_text("[broker]\nport = 18081\n")
    assert BrokerSettings.from_env().port == 18081


def test_a_file_that_nobody_named_need_not_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHARDCAST_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    assert BrokerSettings.from_env().port == 8081


def test_what_settings_say_together_is_told_without_the_words_of_a_library() -> None:
    with pytest.raises(BadConfiguration) as refused:
        BrokerSettings.from_env(host="0.0.0.0")
    assert str(refused.value).startswith("The configuration is not usable: listening on 0.0.0.0 needs access_keys")


@pytest.mark.parametrize("text", ["one two", "one,two", " one\n, two\n"])
def test_access_keys_stand_side_by_side_in_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def keys() -> list[str]:
        return [key.get_secret_value() for key in BrokerSettings.from_env().access_keys]

    monkeypatch.setenv("SHARDCAST_ACCESS_KEYS", text)
    assert keys() == ["one", "two"]
    monkeypatch.delenv("SHARDCAST_ACCESS_KEYS")
    (tmp_path / "keys").write_text(text)
    monkeypatch.setenv("SHARDCAST_ACCESS_KEYS_FILE", str(tmp_path / "keys"))
    assert keys() == ["one", "two"]


def test_no_access_key_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDCAST_ACCESS_KEYS", " , ")
    assert BrokerSettings.from_env().access_keys == ()
    with pytest.raises(BadConfiguration, match="access_keys"):
        BrokerSettings.from_env(access_keys=("",))
