"""What people and files may say to the command line, and what it shows: whatever it is, in a sentence and whole."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from protos.errors import BadConfiguration, InvalidArgument, Unauthenticated, Unreachable
from shardcast.cli import app, fleet, jobs, runs, tokens
from shardcast.cli.context import Output, confirm, parsed_params, show
from shardcast.cli.messages.topics import topic_path
from shardcast.rest import RestClient, token_from_file


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("[true]", "[true]"),
        ("file [abc] is not there", "file [abc] is not there"),
        ("a tag [/b] alone", "a tag [/b] alone"),
        (":ok: \\[a]", ":ok: \\[a]"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_a_table_shows_a_text_as_it_is(value: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    show({"text": value}, Output.TABLE, ("text",))
    assert capsys.readouterr().out.splitlines()[2].rstrip() == shown


@pytest.mark.parametrize("token", ["tökn", "a\nb", "\udcff"])
def test_a_token_that_cannot_be_one_is_said_to_be_none(token: str) -> None:
    with pytest.raises(Unauthenticated):
        RestClient("http://127.0.0.1:1", token)


def test_an_address_that_is_none_is_not_reached() -> None:
    with pytest.raises(Unreachable):
        RestClient("http://[::1", "")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<p>Welcome</p>"),
        httpx.Response(301, headers={"location": "https://admin/"}),
        httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip")),
    ],
)
def test_a_server_that_is_no_admin_is_said_to_be_none(answer: httpx.Response) -> None:
    with RestClient("http://127.0.0.1:1", "") as api:
        api._http = httpx.Client(base_url="http://admin", transport=httpx.MockTransport(lambda _: answer))
        with pytest.raises(Unreachable):
            api.get("/jobs")


def test_a_token_file_that_is_no_text_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("SHARDCAST_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(BadConfiguration, match="token"):
        token_from_file()


def test_what_is_no_json_is_a_text_as_a_parameter() -> None:
    deep, long = "[" * 100_000, "9" * 5_000
    assert parsed_params([f"a={deep}", f"b={long}", "c=1e3"]) == {"a": deep, "b": long, "c": 1000.0}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where an admin that knows nothing is asked."""
    found: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        found.append(f"{request.method} {request.url.raw_path.decode()}")
        return httpx.Response(404, json={"code": "unknown_job", "title": "No", "detail": "No."})

    @contextmanager
    def connect(server: str, token: str | None) -> Iterator[RestClient]:
        with RestClient("http://127.0.0.1:1", "") as api:
            api._http = httpx.Client(base_url="http://admin/api/v1", transport=httpx.MockTransport(answer))
            yield api

    for room in (jobs, runs, tokens, fleet):
        monkeypatch.setattr(room, "connect", connect)
    return found


@pytest.mark.parametrize(
    ("words", "request_line"),
    [
        (["job", "delete", "--yes", "a?b"], "DELETE /api/v1/jobs/a%3Fb"),
        (["job", "get", "a#b"], "GET /api/v1/jobs/a%23b"),
        (["job", "pause", "a/../b"], "POST /api/v1/jobs/a%2F..%2Fb/pause"),
        (["job", "trigger", "a b?"], "POST /api/v1/jobs/a%20b%3F/trigger"),
        (["job", "resume", "\udcff"], "POST /api/v1/jobs/%FF/resume"),
        (["run", "cancel", "--yes", "x?y"], "POST /api/v1/runs/x%3Fy/cancel"),
        (["run", "wait", "../jobs/a"], "GET /api/v1/runs/..%2Fjobs%2Fa"),
        (["run", "logs", "x?y"], "GET /api/v1/runs/x%3Fy/logs?limit=1000"),
        (["token", "revoke", "../jobs/a"], "DELETE /api/v1/tokens/..%2Fjobs%2Fa"),
    ],
)
def test_a_name_means_what_has_this_name_and_nothing_else(
    asked: list[str], words: list[str], request_line: str
) -> None:
    assert CliRunner().invoke(app, words).exit_code == 1
    assert asked == [request_line]


def test_a_topic_may_be_asked_for_by_any_bytes() -> None:
    assert topic_path("\udcff/é") == "/topics/%FF%2F%C3%A9"


@pytest.mark.parametrize(
    "document", ["jobs: [{name: [a]}]", "jobs: [{name: {a: 1}}]", f"jobs: {'[' * 5_000}{']' * 5_000}"]
)
def test_a_file_of_odd_jobs_is_unfit(asked: list[str], tmp_path: Path, document: str) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(document)
    for verb in ("apply", "diff"):
        ended = CliRunner().invoke(app, ["job", verb, str(file)])
        assert (ended.exit_code, ended.stderr.count("\n")) == (66, 1), ended.exception
    assert asked == []


def test_a_standard_input_that_is_closed_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    told = io.StringIO()
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stderr", told)
    with pytest.raises(SystemExit) as ended:
        jobs.apply(Path("-"))
    assert (ended.value.code, told.getvalue().count("\n")) == (66, 1)


def test_nothing_is_done_where_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InvalidArgument, match="give --yes"):
        confirm("Really?", False)


@pytest.mark.parametrize("words", [["run", "wait", "x"], ["job", "trigger", "x", "--wait"]])
@pytest.mark.parametrize("timeout", ["nan", "-1"])
def test_a_time_to_wait_that_never_is_over_is_refused(asked: list[str], words: list[str], timeout: str) -> None:
    assert CliRunner().invoke(app, [*words, "--timeout", timeout]).exit_code == 2
    assert asked == []
