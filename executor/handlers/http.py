"""The handler `http`: one call of an URL, its status as the result."""

from collections.abc import Iterator
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field

from executor.errors import Fail
from executor.running.context import Context

MAX_KEPT_CHARACTERS = 4_096


class HttpCall(BaseModel):
    """What is called. `body` is sent as it is; `timeout` is in seconds."""

    model_config = ConfigDict(extra="forbid")

    url: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "GET"
    headers: dict[str, str] = {}
    body: str | None = None
    timeout: float = Field(default=30.0, gt=0)


class HttpAnswer(BaseModel):
    """What came back; `text` is its beginning."""

    status: int
    text: str


def call_http(context: Context, params: HttpCall) -> HttpAnswer | Fail:
    """Calls the URL with the run and the shard in its headers.

    A status of 400 to 499 fails without a retry, but 408 and 429; 500 and more, and no answer at all, may be retried.
    """
    shard = f"{context.shard.index}/{context.shard.total}"
    headers = {"Shardcast-Run": context.run_id, "Shardcast-Shard": shard, **params.headers}
    with httpx.stream(
        params.method, params.url, headers=headers, content=params.body, timeout=params.timeout, trust_env=False
    ) as answer:
        if answer.is_client_error and answer.status_code not in (408, 429):
            return Fail(f"{params.url} answered {answer.status_code}")
        answer.raise_for_status()
        return HttpAnswer(status=answer.status_code, text=_beginning(context, answer.iter_text()))


def _beginning(context: Context, pieces: Iterator[str]) -> str:
    """Of a text that may be endless. Raises Cancelled."""
    text = ""
    for piece in pieces:
        context.raise_if_cancelled()
        text += piece
        if len(text) >= MAX_KEPT_CHARACTERS:
            break
    return text[:MAX_KEPT_CHARACTERS]
