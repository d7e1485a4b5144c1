"""The lines that a handler logs: to this process's log, and in batches to the admin, up to a cap."""

import logging
from collections import deque
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from executor.model import AttemptKey, LogLine

LEAST_LEVEL = logging.INFO
MAX_WAITING = 1_000  # lines of one attempt; a chatty handler must not grow the process
MAX_LINE_CHARACTERS = 4_096

_lines = logging.getLogger("executor.handler")


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Lines of one attempt, and how many before them were given up."""

    key: AttemptKey
    lines: tuple[LogLine, ...]
    dropped: int


class RunLog(logging.LoggerAdapter[logging.Logger]):
    """A logger bound to one attempt; any thread may log, the daemon's loop takes."""

    def __init__(self, key: AttemptKey, now: Callable[[], datetime]) -> None:
        super().__init__(_lines, {"run_id": key.run_id, "shard": key.shard})
        self._key = key
        self._now = now
        self._waiting: deque[LogLine] = deque()
        self._dropped = 0

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        """Adds run and shard to what the caller gives as `extra`."""
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Keeps the line for the admin, whatever this process itself logs, and passes it on with its values filled in:
        one that does not fit them would fail in every handler of this process."""
        text = _text(msg, args)
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, "%s", text, **kwargs)
        if level >= LEAST_LEVEL:
            self._keep(LogLine(self._now(), min(level, logging.CRITICAL), text[:MAX_LINE_CHARACTERS]))

    def take(self) -> LogBatch | None:
        """What was logged since the last call."""
        if not self._waiting:
            return None
        lines = tuple(self._waiting.popleft() for _ in range(len(self._waiting)))
        dropped, self._dropped = self._dropped, 0
        return LogBatch(self._key, lines, dropped)

    def _keep(self, line: LogLine) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
        else:
            self._waiting.append(line)


def _text(msg: object, args: tuple[object, ...]) -> str:
    try:
        return str(msg) % args if args else str(msg)
    except (TypeError, ValueError):  # as logging does: a bad format is no reason to fail
        return f"{msg} {args}"
