"""A push provider over real HTTP: checks signatures, honours idempotency keys, and misbehaves when it is told to."""

import hashlib
import hmac
import json
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STALE_SECONDS = 300


@dataclass(frozen=True)
class Answer:
    """`status` 0 cuts the connection. `takes` says whether it takes what it is given all the same, and `waits` that it
    answers only when the test releases it. `blanks` follow the body, `blanks_a_second` of them where that is not 0."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    takes: bool = False
    waits: bool = False
    blanks: int = 0
    blanks_a_second: int = 0


ACCEPT = Answer(takes=True)
RESET = Answer(0)
RESET_BEHIND = Answer(0, takes=True)
SILENT = Answer(waits=True)
BROKEN = Answer(500)


class FakeProvider:
    """Answers as `script` says, then accepts; users in `rejects` are rejected, those in `postpones` postponed."""

    def __init__(self, secret: bytes, now_seconds: float) -> None:
        self._secret = secret
        self._now_seconds = now_seconds
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.script: deque[Answer] = deque()
        self.rejects: set[int] = set()
        self.postpones: dict[int, float] = {}
        self.reason: str | None = "no such device"
        self.calls: list[list[int]] = []  # users of each
        self.messages: list[Mapping[str, object]] = []
        self.accepted: Counter[str] = Counter()  # by key, how often it did something
        self.repeated: Counter[str] = Counter()  # by key, how often it had done it before
        self.released = threading.Event()
        self.blanks = 0  # written

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/push"

    def start(self) -> None:
        """On the same port each time."""
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def stop(self) -> None:
        """Cuts what is connected."""
        self.released.set()
        if self._server is not None:
            self._server.shutdown()
            with self._lock:
                for each in self._connections:
                    each.shutdown(socket.SHUT_RDWR)
            self._server.server_close()  # and waits for its threads
            self._server = None

    def answer(self, body: bytes, signed: str) -> tuple[Answer, bytes]:
        if not self._is_signed(body, signed):
            return Answer(401), b"bad signature"
        given = json.loads(body)
        with self._lock:
            self.messages.append(given["message"])
            self.calls.append([each["user_id"] for each in given["to"]])
            answer = self.script.popleft() if self.script else ACCEPT
            results = [result for each in given["to"] if answer.takes and (result := self._take(each)) is not None]
        if answer.waits:
            self.released.wait()
        return answer, json.dumps({"results": results}).encode() if answer.status == 200 else b"as told"

    def note(self, connection: socket.socket, *, is_open: bool) -> None:
        with self._lock:
            (self._connections.add if is_open else self._connections.discard)(connection)

    def _take(self, each: Mapping[str, object]) -> Mapping[str, object] | None:
        key, user = str(each["key"]), each["user_id"]
        assert isinstance(user, int)
        if user in self.rejects:
            return {"key": key, "status": "rejected", "reason": self.reason}
        if user in self.postpones:
            return {"key": key, "status": "later", "reason": "asleep", "retry_after": self.postpones[user]}
        (self.repeated if key in self.accepted else self.accepted)[key] += 1
        return None

    def _is_signed(self, body: bytes, signed: str) -> bool:
        parts = dict(part.split("=", 1) for part in signed.split(",") if "=" in part)
        seconds = parts.get("t", "0")
        wanted = hmac.new(self._secret, seconds.encode() + b"." + body, hashlib.sha256).hexdigest()
        is_fresh = abs(int(seconds) - self._now_seconds) < STALE_SECONDS
        return is_fresh and hmac.compare_digest(wanted, parts.get("v1", ""))


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, address: tuple[str, int], provider: FakeProvider) -> None:
        self.provider = provider
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    connection: socket.socket

    def setup(self) -> None:
        super().setup()
        self.server.provider.note(self.connection, is_open=True)

    def finish(self) -> None:
        self.server.provider.note(self.connection, is_open=False)
        super().finish()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer, text = self.server.provider.answer(body, self.headers.get("X-Signature", ""))
        if not answer.status:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(text) + answer.blanks)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)
        self._write_blanks(answer)

    def _write_blanks(self, answer: Answer) -> None:
        provider, size = self.server.provider, 1 if answer.blanks_a_second else 1 << 16
        while provider.blanks < answer.blanks:
            self.wfile.write(b" " * size)
            provider.blanks += size
            if answer.blanks_a_second and provider.released.wait(1 / answer.blanks_a_second):
                return

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@contextmanager
def running_provider(secret: bytes, now_seconds: float) -> Iterator[FakeProvider]:
    provider = FakeProvider(secret, now_seconds)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()
