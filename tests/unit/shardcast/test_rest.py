"""What the REST client makes of an admin's problems."""

from pathlib import Path

import httpx
import pytest

from protos.errors import BadConfiguration
from protos.exits import Exit, exit_code_of
from shardcast.rest import RestClient, _problem


@pytest.mark.parametrize(
    ("status", "exit_code"), [(400, Exit.USAGE), (409, Exit.FAILED), (503, Exit.UNREACHABLE), (504, Exit.TEMPORARY)]
)
def test_a_code_that_only_the_admin_knows_ends_by_its_status(status: int, exit_code: Exit) -> None:
    response = httpx.Response(status, json={"code": "known_to_the_admin_alone", "title": "No", "detail": "No."})
    error = _problem(response, "http://127.0.0.1:8080")
    assert (str(error), exit_code_of(error)) == ("No.", exit_code)


def test_a_list_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {None: (["a", "b"], "b"), "b": (["c"], "")}
    asked: list[dict[str, object]] = []

    def get(_: RestClient, path: str, **query: str | None) -> dict[str, object]:
        asked.append({"path": path, **query})
        names, next_page_token = pages[query["page_token"]]
        return {"names": names, "next_page_token": next_page_token}

    monkeypatch.setattr(RestClient, "get", get)
    assert RestClient("http://127.0.0.1:1", "").get_all("/names", "names", topic="t") == {"names": ["a", "b", "c"]}
    assert [query["topic"] for query in asked] == ["t", "t"]


def test_a_program_finds_the_admin_as_the_command_line_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SHARDCAST_SERVER", "SHARDCAST_TOKEN", "SHARDCAST_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert _knows(RestClient.from_env()) == ("http://127.0.0.1:8080/api/v1/", None)
    (tmp_path / "token").write_text("from a file\n")
    monkeypatch.setenv("SHARDCAST_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("SHARDCAST_SERVER", "http://admin:8080/")
    assert _knows(RestClient.from_env()) == ("http://admin:8080/api/v1/", "Bearer from a file")
    monkeypatch.setenv("SHARDCAST_TOKEN", "given")
    assert _knows(RestClient.from_env()) == ("http://admin:8080/api/v1/", "Bearer given")
    monkeypatch.delenv("SHARDCAST_TOKEN")
    monkeypatch.setenv("SHARDCAST_TOKEN_FILE", str(tmp_path / "nothing"))
    with pytest.raises(BadConfiguration, match="nothing"):
        RestClient.from_env()


def _knows(client: RestClient) -> tuple[str, str | None]:
    with client:
        return str(client._http.base_url), client._http.headers.get("authorization")
