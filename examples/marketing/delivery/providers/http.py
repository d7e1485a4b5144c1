"""A provider behind HTTP: signed batches over a bounded pool of connections, and what its answers mean.

A call is `POST url` with `{"message": {...}, "to": [{"key", "user_id"}, ...]}`. An answer of 2xx may say what did not
go: `{"results": [{"key", "status": "rejected" | "later", "reason", "retry_after"}]}`; all others were accepted, now or
under the same key before. docs/marketing.md has the whole of it.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Literal

import httpx
from pydantic import BaseModel, Field, ValidationError

from examples.marketing.delivery.providers.breaker import REST, Breaker, Event
from examples.marketing.delivery.providers.port import Later, Notices, Rejected

SIGNATURE = "X-Signature"
LONGEST_WAIT = timedelta(days=1)
_ASKS_FOR_TIME = (408, 425, 429)
_REASON_CHARACTERS = 500
MOST_ANSWER_BYTES = 8 << 20


class _Result(BaseModel):
    key: str
    status: Literal["rejected", "later"]
    reason: str | None = None
    retry_after: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0  # seconds

    @property
    def wait(self) -> timedelta:
        return timedelta(seconds=min(self.retry_after, LONGEST_WAIT.total_seconds()))


class _Answer(BaseModel):
    results: Sequence[_Result] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an HTTP provider is and how it is spoken to. `batch` is users of one call."""

    url: str
    secret: bytes
    timeout: timedelta
    connections: int
    batch: int


def signature(secret: bytes, seconds: int, body: bytes) -> str:
    """`t=<seconds since the epoch>,v1=<hex>`: HMAC-SHA256 of "<seconds>.<body>"."""
    digest = hmac.new(secret, b"%d." % seconds + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def retry_after(header: str | None, now: datetime) -> timedelta:
    """What Retry-After says, in seconds or as an HTTP date; zero where it says nothing, a day at most."""
    if not header:
        return timedelta(0)
    if header.strip().isdecimal():
        return timedelta(seconds=min(int(header[:10]), LONGEST_WAIT.total_seconds()))
    try:
        until = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return timedelta(0)
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return min(max(until - now, timedelta(0)), LONGEST_WAIT)


class HttpProvider:
    """Implements Provider. A call that got no answer is to be tried again: the provider knows its keys."""

    def __init__(self, endpoint: Endpoint, clock: Callable[[], datetime]) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._breaker = Breaker(clock)
        most = endpoint.connections
        self._client = httpx.Client(
            timeout=endpoint.timeout.total_seconds(),
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
        )
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="provider")

    def rest(self, now: datetime) -> timedelta:
        return self._breaker.rest(now)

    def send(self, notices: Notices) -> Mapping[int, Rejected | Later]:
        spans = [
            range(first, min(first + self._endpoint.batch, len(notices)))
            for first in range(0, len(notices), self._endpoint.batch)
        ]
        parts = self._pool.map(lambda span: self._send(notices, span), spans)
        return {index: outcome for part in parts for index, outcome in part.items()}

    def close(self) -> None:
        self._pool.shutdown()
        self._client.close()

    def _send(self, notices: Notices, span: range) -> Mapping[int, Rejected | Later]:
        if rest := self._breaker.ask():
            return dict.fromkeys(span, Later("the provider is left alone for a while", rest, was_asked=False))
        event, wait = Event.FAILED, REST
        try:
            answer, body = self._post(notices, span)
            told = f"the provider answered {answer.status_code} {body[:200].decode(errors='replace')}".strip()
            asked = retry_after(answer.headers.get("Retry-After"), self._clock())
            if answer.is_server_error:
                return dict.fromkeys(span, Later(told, asked))
            event = Event.ANSWERED
            if answer.status_code in _ASKS_FOR_TIME:
                event, wait = (Event.TOLD_TO_WAIT, asked) if asked else (Event.FAILED, REST)
                return dict.fromkeys(span, Later(told, asked))
            if not answer.is_success:
                return dict.fromkeys(span, Rejected(told))
            return _outcomes(body, notices, span)
        except httpx.HTTPError as error:
            return dict.fromkeys(span, Later(f"the provider did not answer: {type(error).__name__} {error}"[:500]))
        finally:
            self._breaker.tell(event, wait)

    def _post(self, notices: Notices, span: range) -> tuple[httpx.Response, bytes]:
        """The answer and its body, as far as that came in time and may be read."""
        to = [{"key": notices.key(index), "user_id": notices.user_ids[index]} for index in span]
        body = json.dumps({"message": notices.message.model_dump(mode="json"), "to": to}).encode()
        signed = signature(self._endpoint.secret, int(self._clock().timestamp()), body)
        headers = {"Content-Type": "application/json", SIGNATURE: signed}
        give_up_at = time.monotonic() + self._endpoint.timeout.total_seconds()
        with self._client.stream("POST", self._endpoint.url, content=body, headers=headers) as answer:
            return answer, _read(answer, give_up_at)


def _read(answer: httpx.Response, give_up_at: float) -> bytes:
    """Breaks off what has no end, and what drips: the client has a timeout for each drop alone. Raises
    httpx.ReadTimeout where the rest would have mattered."""
    found = bytearray()
    for part in answer.iter_bytes():
        found += part
        if len(found) > MOST_ANSWER_BYTES or time.monotonic() > give_up_at:
            if answer.is_success:
                raise httpx.ReadTimeout("its answer does not end")
            break
    return bytes(found)


def _outcomes(body: bytes, notices: Notices, span: range) -> Mapping[int, Rejected | Later]:
    try:
        results = _Answer.model_validate_json(body or b"{}").results
    except ValidationError:
        return dict.fromkeys(span, Later("the provider's answer could not be read"))
    found: dict[str, Rejected | Later] = {}
    for each in results:
        reason = (each.reason or "")[:_REASON_CHARACTERS]
        if each.status == "rejected":
            found[each.key] = Rejected(reason or "the provider rejected it")
        else:
            found[each.key] = Later(reason or "the provider asks for time", each.wait)
    if not found:
        return {}
    return {index: found[key] for index in span if (key := notices.key(index)) in found}
