"""What the REST client makes of an admin's problems."""

import httpx
import pytest

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
