"""A process that turns the messages of one topic into messages of another, until it is killed.

Run as `python -m tests.support.relay_process HOST:PORT`; ends with its standard input.
"""

import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta

import structlog

from broker.client import Consumer, Message, ReceivedMessage
from executor.app import Executor
from executor.errors import Retry
from executor.model import Handled
from executor.registry import Listener
from executor.running.listening.joining import BrokerGroups
from executor.running.listening.listening import Listening

SESSION = timedelta(seconds=1)  # so long nobody gets the queues of one that was killed
COPIES = 3

chance = random.Random(os.getpid())
app = Executor("relays")


@app.consumer("in", group="relays", mode="offset", to="out", max_messages=20, slots=3)
def several(messages: list[ReceivedMessage]) -> object:
    if chance.random() < 0.05:
        raise RuntimeError("it fails by chance")
    if chance.random() < 0.05:
        raise Retry(after=0)
    count = chance.randint(0, len(messages)) if chance.random() < 0.2 else len(messages)
    made = [copy for message in messages[:count] for copy in copies(message)]
    return Handled(count, made, after=0.001) if count < len(messages) else made


def copies(message: Message) -> Sequence[Message]:
    return [Message(b"%b %d" % (message.body, index), key=message.key) for index in range(COPIES)]


class QuickGroups(BrokerGroups):
    """Whose members are missed soon."""

    def _join(self, listener: Listener, max_messages: int) -> Consumer:
        consumer = super()._join(listener, max_messages)
        consumer._session_timeout_ms = SESSION // timedelta(milliseconds=1)
        return consumer


async def run(endpoint: str) -> None:
    [listener] = app.registry.listeners
    running = Listening(listener, QuickGroups(endpoint, ""))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, running.stop)
    working = asyncio.create_task(running.run())
    leaving = loop.run_in_executor(None, sys.stdin.read)
    await asyncio.wait((working, asyncio.ensure_future(leaving)), return_when=asyncio.FIRST_COMPLETED)
    os._exit(0)  # drained, or left alone


class RelayProcess:
    """One of them, to kill, freeze and drain."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.relay_process",
            self._endpoint,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    async def drain(self) -> None:
        """Ends when what was at hand is done."""
        self._process.terminate()
        await self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    # drawing a traceback for a terminal takes longer than all else that the process does
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(run(sys.argv[1]))
