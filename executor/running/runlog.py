"""The lines that a handler logs: to this process's log, and in batches to the admin, up to a cap."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from executor.model import AttemptKey, LogLine

LEAST_LEVEL = logging.INFO
MAX_WAITING = 1_000  # lines of one attempt; a chatty handler must not grow the process
MAX_LINE_CHARACTERS = 4_096
MAX_ENDED = 4_096  # attempts that have ended, of whose lines something waits for a link
MAX_ENDED_WHOLE = 64  # of which more waits than how many they were

_lines = logging.getLogger("executor.handler")


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Lines of one attempt, and how many behind them were given up."""

    key: AttemptKey
    attempt_number: int
    lines: tuple[LogLine, ...]
    dropped: int


class RunLog(logging.LoggerAdapter[logging.Logger]):
    """A logger bound to one attempt; any thread may log, the daemon's loop takes."""

    def __init__(self, key: AttemptKey, attempt_number: int, now: Callable[[], datetime]) -> None:
        super().__init__(_lines, {"run_id": key.run_id, "shard": key.shard})
        self.key = key
        self._attempt_number = attempt_number
        self._now = now
        self._lock = threading.Lock()
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
            self.keep(LogLine(self._now(), min(level, logging.CRITICAL), text[:MAX_LINE_CHARACTERS]))

    def take(self) -> LogBatch | None:
        """What was logged since the last call."""
        if not self.has_news:
            return None
        with self._lock:
            lines, dropped = tuple(self._waiting), self._dropped
            self._waiting.clear()
            self._dropped = 0
        return LogBatch(self.key, self._attempt_number, lines, dropped)

    @property
    def has_news(self) -> bool:
        return bool(self._waiting or self._dropped)

    def give_up(self) -> None:
        """Keeps of what waits only how much it is."""
        with self._lock:
            self._dropped += len(self._waiting)
            self._waiting.clear()

    def keep(self, line: LogLine) -> None:
        """For the admin."""
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                self._dropped += 1
            else:
                self._waiting.append(line)


class EndedLogs:
    """Logs of attempts that have ended, until a link takes them; of those that wait for long, how much it was."""

    def __init__(self) -> None:
        self._logs: dict[AttemptKey, RunLog] = {}

    def add(self, log: RunLog) -> None:
        if not log.has_news:
            return
        self._logs[log.key] = log
        if len(self._logs) > MAX_ENDED:
            del self._logs[next(iter(self._logs))]
        if len(self._logs) > MAX_ENDED_WHOLE:
            list(self._logs.values())[-MAX_ENDED_WHOLE - 1].give_up()

    def pop(self, key: AttemptKey) -> RunLog | None:
        return self._logs.pop(key, None)

    def pop_all(self, besides: Collection[AttemptKey]) -> list[RunLog]:
        logs = [log for key, log in self._logs.items() if key not in besides]
        for log in logs:
            del self._logs[log.key]
        return logs


def _text(msg: object, args: tuple[object, ...]) -> str:
    """As logging fills it in, a lone mapping by its names; what cannot be told is no reason to fail."""
    values = args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args
    try:
        return str(msg) % values if args else str(msg)
    except Exception:
        with suppress(Exception):
            return f"{msg} {args}"
        return "its message cannot be shown"
