"""Files of jobs, as `shardcast job apply` reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shardcast.cli import jobs


class Recorder:
    """An admin without jobs that remembers what it is asked to create."""

    def __init__(self) -> None:
        self.created: list[Any] = []

    def get_all(self, path: str, field: str) -> Any:
        return {field: []}

    def post(self, path: str, body: object) -> None:
        self.created.append(body)


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()

    @contextmanager
    def connect(server: str, token: str | None) -> Iterator[Recorder]:
        yield recorder

    monkeypatch.setattr(jobs, "connect", connect)
    return recorder


def test_an_instant_without_quotes_is_sent_as_the_text_it_is(admin: Recorder, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("jobs: [{name: a, trigger: {at: 2026-12-01T09:00:00+08:00}, params: {day: 2026-12-01, n: 1}}]")
    assert CliRunner().invoke(jobs.app, ["apply", str(file)]).exit_code == 0
    assert admin.created == [
        {"name": "a", "trigger": {"at": "2026-12-01T09:00:00+08:00"}, "params": {"day": "2026-12-01", "n": 1}}
    ]


@pytest.mark.parametrize("value", [".nan", "!!binary aGVsbG8=", "!!set {a, b}"])
def test_a_value_that_json_does_not_have_ends_with_66(admin: Recorder, tmp_path: Path, value: str) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(f"jobs: [{{name: a, params: {{x: {value}}}}}]")
    ended = CliRunner().invoke(jobs.app, ["apply", str(file)])
    assert ended.exit_code == 66
    assert ended.stderr.count("\n") == 1
    assert "JSON does not have" in ended.stderr
    assert admin.created == []
