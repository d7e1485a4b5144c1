"""The provider of demos and tests: it writes down every call."""

import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from examples.marketing.delivery.providers.port import Later, Notices, Rejected


class RecordingProvider:
    """Implements Provider. Leaves one JSON line a notice in `deliveries-<process id>.jsonl`: promotion_id, user_id (as
    text), message_id and at_ms, milliseconds since the epoch.

    A call's lines are handed to the operating system in one write before the call returns: the end of the process does
    not lose them.
    """

    def __init__(self, directory: Path, clock: Callable[[], datetime]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = os.open(
            directory / f"deliveries-{os.getpid()}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
        )
        self._clock = clock

    def rest(self, now: datetime) -> timedelta:
        return timedelta(0)

    def send(self, notices: Notices) -> Mapping[int, Rejected | Later]:
        first = f'{{"promotion_id": {notices.message.promotion_id}, "user_id": "'
        last = f'", "at_ms": {int(self._clock().timestamp() * 1000)}}}\n'
        pairs = zip(notices.user_ids, notices.message_ids, strict=True)
        lines = "".join([f'{first}{user}", "message_id": "{message}{last}' for user, message in pairs]).encode()
        while lines:
            lines = lines[os.write(self._file, lines) :]
        return {}

    def close(self) -> None:
        os.close(self._file)
