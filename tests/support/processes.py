"""What other processes do, which give no signal: whether they are gone, by looking again and again."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path


async def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Ended, and not left as a zombie; one whose parent died first is the system's to collect."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state[0] == "Z" and int(state[1]) != os.getpid()
