from pathlib import Path

import pytest

from examples.marketing.errors import BadSettings
from examples.marketing.settings import FILE_VARIABLE, Settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(FILE_VARIABLE, raising=False)


def loaded(text: str) -> Settings:
    Path("marketing.yaml").write_text(text)
    return Settings.load()


@pytest.mark.parametrize("key", ["name_server", "nameServer"])
def test_where_messages_go_is_one_line_under_either_name(key: str) -> None:
    assert loaded(f"rocketmq:\n  {key}: broker.shop:8081\n").rocketmq.name_server == "broker.shop:8081"


def test_without_a_file_everything_is_on_this_machine() -> None:
    assert Settings.load() == Settings()
    assert Settings().rocketmq.name_server == "127.0.0.1:8081"


def test_an_empty_file_changes_nothing() -> None:
    assert loaded("") == Settings()


def test_the_file_is_the_one_that_is_given_else_the_one_of_the_environment_else_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("given", "environment", "marketing"):
        (tmp_path / f"{name}.yaml").write_text(f"database: {name}")
    assert Settings.load().database == "marketing"
    monkeypatch.setenv(FILE_VARIABLE, "environment.yaml")
    assert Settings.load().database == "environment"
    assert Settings.load(Path("given.yaml")).database == "given"


@pytest.mark.parametrize("endpoint", ["broker.shop:9876", "rocketmq://broker.shop:9876"])
def test_the_port_of_a_name_server_is_refused_with_the_right_address(endpoint: str) -> None:
    with pytest.raises(BadSettings, match=r"9876 is the port of a RocketMQ name server.*broker\.shop:8081\.$"):
        loaded(f"rocketmq: {{name_server: '{endpoint}'}}")


def test_apache_rocketmq_is_refused_for_now() -> None:
    with pytest.raises(BadSettings, match="Apache RocketMQ is not supported yet"):
        loaded("rocketmq: {name_server: 'rocketmq://broker.shop:8081'}")


@pytest.mark.parametrize(
    "endpoint", ["broker.shop", ":8081", "broker.shop:http", "http://broker.shop:8081", "", "x:65536", "x:000080"]
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(BadSettings, match="is no endpoint: give host:port"):
        loaded(f"rocketmq: {{name_server: '{endpoint}'}}")


def test_all_faults_are_told_at_once_each_with_its_place() -> None:
    with pytest.raises(BadSettings) as refused:
        loaded("colour: red\nsms: {kind: pigeon, batch: 0}\nrocketmq: {nameServer: 'x:9876', group: a}\n")
    told = str(refused.value)
    assert told.startswith("The settings in marketing.yaml cannot be used: ")
    for place in (
        "colour: Extra",
        "sms.kind: Input",
        "sms.batch: Input",
        "rocketmq.group: Extra",
        ": 9876 is the port",
    ):
        assert place in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("text", "told"), [("rocketmq: [", "it is no YAML"), ("7", "it: "), ("sms: 7", "sms: "), ("- a", "it: ")]
)
def test_what_are_no_settings_is_refused(text: str, told: str) -> None:
    with pytest.raises(BadSettings, match=told):
        loaded(text)


@pytest.mark.parametrize("content", [b"database: \xff\xfe", b"database: 2026-13-45", b"sms: " + b"[" * 5_000])
def test_what_can_never_be_settings_is_refused_and_breaks_nothing(content: bytes) -> None:
    Path("marketing.yaml").write_bytes(content)
    with pytest.raises(BadSettings, match="it is no YAML: "):
        Settings.load()


@pytest.mark.parametrize("url", ["http://", "ftp://push.example", "http://push.example:x/", "push.example", ""])
def test_a_provider_that_could_never_be_called_is_refused(url: str) -> None:
    with pytest.raises(BadSettings, match="sms: a provider of the kind http needs a url"):
        loaded(f"sms: {{kind: http, url: '{url}', secret_file: key}}")


@pytest.mark.parametrize("seconds", ["0", "-1", ".inf", ".nan", "1e300"])
def test_a_timeout_that_is_none_is_refused(seconds: str) -> None:
    with pytest.raises(BadSettings, match=r"mail\.timeout_seconds: Input should be"):
        loaded(f"mail: {{timeout_seconds: {seconds}}}")


def test_of_a_thousand_faults_the_first_ones_are_told() -> None:
    with pytest.raises(BadSettings) as refused:
        loaded("\n".join(f"unknown_{number}: 1" for number in range(1_000)))
    assert "unknown_0: Extra" in str(refused.value)
    assert len(str(refused.value)) < 2_200


def test_a_file_that_is_named_must_be_there() -> None:
    with pytest.raises(BadSettings, match=r"The settings in gone\.yaml cannot be used: No such file"):
        Settings.load(Path("gone.yaml"))
