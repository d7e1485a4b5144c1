"""Apache RocketMQ 5 behind its gRPC proxy, the peer of the broker where a tool that runs it is named.

The tool is a program with the words `start` (prints "grpc=HOST:PORT ... version=..." once it answers), `topic NAME`,
and `clean`; it takes `ROCKETMQ_FLUSH` from the environment.
"""

import asyncio
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import grpc.aio

from protos.channel import dial
from protos.rocketmq.v2 import messaging_pb2 as pb

TOOL_VARIABLE = "ROCKETMQ_TOOL"
TOPIC = "bench"
_SEND = "/apache.rocketmq.v2.MessagingService/SendMessage"
_CLIENT = (("x-mq-client-id", "bench"), ("x-mq-language", "PYTHON"), ("x-mq-protocol", "v2"))
_NORMAL = 1
_IDENTITY = 1
_OK = 20_000
_SECONDS = 30.0
_FACT = re.compile(r"(\w+)=(\S+)")

Send: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[pb.SendMessageRequest, pb.SendMessageResponse]"


def find_tool(named: str) -> Path | str:
    """The tool, or why there is none."""
    path = named or os.environ.get(TOOL_VARIABLE, "")
    if not path:
        return f"no tool named by --rocketmq or {TOOL_VARIABLE}"
    missing = [program for program in (path, "java", "mvn") if shutil.which(program) is None]
    return f"{', '.join(missing)} not found" if missing else Path(path)


class RocketMQ:
    """One proxy with its broker; messages go out as its own clients send them, one request for a batch."""

    def __init__(self, send: Send, name: str, body: bytes) -> None:
        self.name = name
        self._send = send
        self._body = body
        self._ids = map("{:034X}".format, itertools.count())

    async def publish(self, topic: str, batch: int) -> None:
        """To its one topic, whatever is named. At most 4 MiB in a batch."""
        messages = [self._message() for _ in range(batch)]
        answer = await self._send(pb.SendMessageRequest(messages=messages), timeout=_SECONDS, metadata=_CLIENT)
        assert answer.status.code == _OK, answer.status.message

    def _message(self) -> pb.Message:
        properties = pb.SystemProperties(message_id=next(self._ids), body_encoding=_IDENTITY, message_type=_NORMAL)
        return pb.Message(topic=pb.Resource(name=TOPIC), system_properties=properties, body=self._body)


@asynccontextmanager
async def running_rocketmq(tool: Path, flush: str, body: bytes) -> AsyncIterator[RocketMQ]:
    """Started for this, and stopped and emptied at the end."""
    try:
        said = dict(_FACT.findall(await _call(tool, "start", flush)))
        await _call(tool, "topic", flush, TOPIC)
        async with dial(said["grpc"]) as channel:
            send: Send = channel.unary_unary(
                _SEND, pb.SendMessageRequest.SerializeToString, pb.SendMessageResponse.FromString
            )
            yield RocketMQ(send, f"Apache RocketMQ {said['version']}, {flush}", body)
    finally:
        await _call(tool, "clean", flush)


async def _call(tool: Path, word: str, flush: str, *arguments: str) -> str:
    """What it says, through a file: the servers that it leaves behind would hold a pipe open."""
    environment = {**os.environ, "ROCKETMQ_FLUSH": flush}
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            tool, word, *arguments, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said
        )
        status = await process.wait()
        said.seek(0)
        text = said.read().decode()
    if status:
        raise SystemExit(f"{tool} {word} failed with {status}: {text}")
    return text
