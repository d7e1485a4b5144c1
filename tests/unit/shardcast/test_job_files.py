"""Files of jobs, as `shardcast job apply` reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from admin.domain.form import definition_of, form_of
from shardcast.cli import jobs


class Recorder:
    """An admin that remembers what it is asked to create and change."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.created: list[Any] = []
        self.changed: list[Any] = []

    def get_all(self, path: str, field: str) -> Any:
        return {field: self.jobs}

    def put(self, path: str, body: object, *, headers: object) -> None:
        self.changed.append(body)

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


KEPT = {
    **form_of(definition_of({"name": "a", "group": "g", "handler": "h"})),
    "trigger": {"every": "30s", "start": "2026-12-01T01:00:00Z", "jitter": "1m30s"},
    "paused": False,
    "version": 3,
    **dict.fromkeys(("created_at", "updated_at", "next_fire_at")),
}
SAME = """jobs: [{name: a, group: g, handler: h, retry: {attempts: 1}, timeout: null,
  trigger: {every: 30s, start: 2026-12-01T09:00:00+08:00, jitter: 90s}}]"""


def test_what_means_the_same_is_no_difference(admin: Recorder, tmp_path: Path) -> None:
    admin.jobs = [KEPT]
    file = tmp_path / "jobs.yaml"
    file.write_text(SAME)
    shown = CliRunner().invoke(jobs.app, ["diff", str(file)])
    assert (shown.output, shown.exit_code) == ("", 0)
    assert CliRunner().invoke(jobs.app, ["apply", str(file)]).output == "a: unchanged\n"
    assert admin.changed == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("T09:00:00+08:00", "T10:00:00+08:00", "+  start: '2026-12-01T02:00:00+00:00'"),
        ("handler: h", "handler: h, overlap: queue, overlap_limit: 2", "+overlap_limit: 2"),
        ("attempts: 1", "attempts: 1, jitter: 0.5, losses: 7", "+  losses: 7"),
    ],
)
def test_a_difference_is_shown_and_written(admin: Recorder, tmp_path: Path, old: str, new: str, line: str) -> None:
    admin.jobs = [KEPT]
    file = tmp_path / "jobs.yaml"
    file.write_text(SAME.replace(old, new))
    shown = CliRunner().invoke(jobs.app, ["diff", str(file)])
    assert shown.exit_code == 1
    assert line in shown.output.splitlines()
    assert CliRunner().invoke(jobs.app, ["apply", str(file)]).output == "a: changed\n"
    assert len(admin.changed) == 1


def test_a_field_that_was_taken_out_of_the_file_is_a_difference(admin: Recorder, tmp_path: Path) -> None:
    admin.jobs = [{**KEPT, "overlap": "allow"}]
    file = tmp_path / "jobs.yaml"
    file.write_text(SAME)
    assert "+overlap: skip" in CliRunner().invoke(jobs.app, ["diff", str(file)]).output.splitlines()


def test_what_a_newer_admin_knows_is_compared_as_it_is_written(admin: Recorder, tmp_path: Path) -> None:
    admin.jobs = [{**KEPT, "colour": "red"}]
    file = tmp_path / "jobs.yaml"
    file.write_text("jobs: [{name: a, colour: red}]")
    assert CliRunner().invoke(jobs.app, ["diff", str(file)]).exit_code == 0
    file.write_text("jobs: [{name: a, colour: blue}]")
    assert "+colour: blue" in CliRunner().invoke(jobs.app, ["diff", str(file)]).output.splitlines()


def test_an_export_is_what_apply_takes_and_finds_unchanged(admin: Recorder, tmp_path: Path) -> None:
    admin.jobs = [{**KEPT, "overlap": "queue", "overlap_limit": 5}]
    file = tmp_path / "jobs.yaml"
    file.write_text(CliRunner().invoke(jobs.app, ["export"]).output)
    assert {"overlap_limit: 5", "losses: 100", "jitter: 1m30s"} <= {
        line.strip() for line in file.read_text().splitlines()
    }
    assert CliRunner().invoke(jobs.app, ["apply", str(file)]).output == "a: unchanged\n"
