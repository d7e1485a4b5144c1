"""Programs that an executor starts: each the head of a group of processes, which is killed as a whole.

Not by the loop's own means: uvloop forks, which a process with gRPC's threads in it does not always survive, while
`subprocess` takes vfork, which runs nothing of this process in the new one.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from executor.running.isolation import in_thread


class Spawned:
    """A program that runs. Belongs to the loop."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        descriptors: Collection[int] = (),
        has_pipes: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Gives the program these descriptors; with `has_pipes`, also pipes as its input and output, errors with it.

        Raises OSError.
        """
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if has_pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if has_pipes else None,
            stderr=subprocess.STDOUT if has_pipes else None,
            pass_fds=descriptors,
            env=environment,
            start_new_session=True,
        )
        self.pid = self.process.pid
        self.exited: asyncio.Future[int] = in_thread(self.process.wait, name=f"process {self.pid}")
        """Its exit code, negative for a signal."""

    async def wait(self, seconds: float | None = None) -> None:
        """Until it has exited; cancelled, it goes on."""
        await asyncio.wait((self.exited,), timeout=seconds)

    def kill(self) -> None:
        """With all that it has started: they are of its group unless they left it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
