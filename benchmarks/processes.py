"""What processes cost, as the operating system counts it; 0 where it does not tell."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
_RSS = re.compile(rb"VmRSS:\s+(\d+) kB")


def cpu_seconds(pids: Iterable[int]) -> float:
    """That these processes, and those of their children that have ended, have used since they began."""
    return sum(map(_ticks, pids)) / _TICKS


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident size, and the share of it that is its own (RSS, PSS), in MiB."""
    return _found(f"/proc/{pid}/status", _RSS), _found(f"/proc/{pid}/smaps_rollup", _PSS)


def children(parent: int) -> list[int]:
    """The living ones."""
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
    return [pid for pid in pids if (fields := _stat(pid)) and int(fields[1]) == parent]


def _ticks(pid: int) -> int:
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) if fields else 0


def _stat(pid: int) -> list[str]:
    """From the state on: the name before it may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _found(path: str, pattern: re.Pattern[bytes]) -> float:
    try:
        found = pattern.search(Path(path).read_bytes())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
