"""Peak memory of processes, read from the operating system."""

import re
from pathlib import Path

_PEAK = re.compile(rb"VmHWM:\s+(\d+) kB")


def peak_rss_mb(pid: int) -> float:
    """The largest resident size that a living process ever had, in MiB; 0.0 where the system does not tell."""
    try:
        found = _PEAK.search(Path(f"/proc/{pid}/status").read_bytes())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
