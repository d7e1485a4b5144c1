"""A broker in a process of its own that a test can kill and start again on the same port."""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

from protos.daemon import STOP_WITH_STDIN


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BrokerProcess:
    """One data directory, one address, as many lives as wanted. Takes the broker's settings."""

    def __init__(self, data: Path, **settings: object) -> None:
        self.endpoint = f"127.0.0.1:{free_port()}"
        self._log = data.with_suffix(".log")
        self._command = ["-m", "shardcast", "broker", "--data", str(data), "--port", self.endpoint.rpartition(":")[2]]
        given = {f"SHARDCAST_{name.upper()}": str(value) for name, value in settings.items()}
        self._environment = {**os.environ, **given, STOP_WITH_STDIN: "1"}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it listens."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._command,
                stdin=asyncio.subprocess.PIPE,  # it ends with this process, however that ends
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
            )
        assert self._process.stdout is not None
        ready = await self._process.stdout.readline()
        assert ready, f"the broker did not start: {self._log.read_text()[-2_000:]}"
        assert "ready" in json.loads(ready)

    async def kill(self) -> None:
        """SIGKILL, at whatever it was doing."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """Asks it to drain; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return await self._process.wait()
