"""The built-in handler http against a server that answers what the path says."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from executor.errors import BadParams, Fail
from executor.handlers import app
from executor.handlers.http import HttpAnswer, call_http
from executor.testing import run_local


class _Echo(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(int(self.path.strip("/")))
        self.end_headers()
        self.wfile.write(body + b" " + self.headers["Shardcast-Shard"].encode())

    def do_GET(self) -> None:
        """Never ends by itself."""
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(b"x" * 10_000)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def params_of(url: str) -> dict[str, str]:
    return {"url": url, "method": "POST", "body": "hello"}


def test_the_answer_is_the_result(server: str) -> None:
    run = run_local(call_http, params_of(f"{server}/200"), shard=(1, 3))
    assert run.result == HttpAnswer(status=200, text="hello 1/3")


def test_a_refusal_fails_for_good_and_an_outage_may_be_retried(server: str) -> None:
    assert isinstance(run_local(call_http, params_of(f"{server}/404")).result, Fail)
    for status in (429, 503):
        with pytest.raises(httpx.HTTPStatusError):
            run_local(call_http, params_of(f"{server}/{status}"))


@pytest.mark.timeout(20)
def test_of_an_answer_without_end_the_beginning_is_kept(server: str) -> None:
    assert run_local(call_http, {"url": server}).result == HttpAnswer(status=200, text="x" * 4_096)


def test_parameters_are_checked() -> None:
    with pytest.raises(BadParams, match="url"):
        run_local(call_http, {"method": "GET"})


def test_an_executor_without_an_app_offers_it() -> None:
    assert set(app.registry.handlers) == {"http"}
