"""The demo's push consumer: fetches batches and calls a provider that records every call.

Run as a process of its own: `python -m shardcast.demo.delivery RECORD_FILE`.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.errors import NotOwner
from shardcast import Batch, Consumer
from shardcast.demo.app import TOPIC

GROUP = "platform_promotion_consumer"


_json_text = json.JSONEncoder().encode  # json.dumps makes up its mind about its options at each call


class RecordingProvider:
    """Stands for a paid push provider: each call leaves one JSON line.

    The message's key, "<promotion id>:<user id>", is the idempotency key of the call. The line has promotion_id,
    user_id (as text), message_id and at_ms (milliseconds since the epoch).

    A batch's lines are handed to the operating system in one write, before the batch is committed, so that a kill of
    this process loses no record of a call.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def __enter__(self) -> Self:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._file, _end_of_lines(self._file))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def push(self, batch: Batch) -> None:
        at_ms = int(self._clock() * 1000)
        lines = bytearray()
        for message in batch:
            promotion_id, _, user_id = (message.key or "").partition(":")
            lines += (
                f'{{"promotion_id": {promotion_id}, "user_id": {_json_text(user_id)}, '
                f'"message_id": "{message.message_id}", "at_ms": {at_ms}}}\n'
            ).encode()
        os.write(self._file, lines)


def _end_of_lines(file: int, block: int = 1 << 16) -> int:
    """The size without a last line that a killed process left unfinished: its batch was never committed."""
    end = os.fstat(file).st_size
    while end > 0:
        start = max(end - block, 0)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def deliver(endpoint: str, provider: RecordingProvider) -> None:
    """Delivers for ever. What another member took over is that member's to deliver."""
    with Consumer(endpoint, GROUP, [TOPIC]) as consumer:
        print(json.dumps({"ready": "consumer"}), flush=True)
        for batch in consumer:
            provider.push(batch)
            try:
                consumer.commit(batch)
            except NotOwner as error:
                print(error, file=sys.stderr, flush=True)


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with RecordingProvider(Path(sys.argv[1])) as provider:
            deliver(os.environ["SHARDCAST_BROKER"], provider)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
