"""A real engine behind wires that a test holds in its hand: what is sent arrives, and is answered, when it says so."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from broker.engine.commands import Command, OpenProducer, StorePublish
from broker.engine.engine import Answer
from broker.errors import BrokerError
from broker.model import HolderId, LogId, Opened, ProducerId, Published, QueueKey
from broker.queues.encoding import encode_batch
from broker.rpc.convert.publishing import from_published, to_publish
from protos.broker.v1 import broker_pb2 as pb
from protos.errors import Unreachable
from tests.support.broker_engine import TOPIC, FragileDisk, PowerLoss, bodies_of, running_engine

LOG = LogId("log")


class HastyDisk(FragileDisk):
    """Loses power as the test says, and never else: nothing has to reach the real disk."""

    def sync(self, fd: int) -> None:
        if self.budget is not None:
            raise PowerLoss

    def sync_directory(self, path: Path) -> None:
        return


@dataclass(eq=False)
class Stream:
    """One publish stream. What was written may still arrive when its end that wrote has gone."""

    up: deque[pb.PublishRequest] = field(default_factory=deque)
    down: asyncio.Queue[pb.PublishResponse | None] = field(default_factory=asyncio.Queue)
    is_broken: bool = False

    async def write(self, request: pb.PublishRequest) -> None:
        self.up.append(pb.PublishRequest.FromString(request.SerializeToString()))

    async def __aiter__(self) -> AsyncIterator[pb.PublishResponse]:
        while (response := await self.down.get()) is not None:
            yield response
        raise Unreachable(address="the broker")

    def break_off(self) -> None:
        """Its answers are lost, and who wrote on it hears so."""
        if not self.is_broken:
            self.is_broken = True
            self.down.put_nowait(None)

    def cancel(self) -> None:
        self.is_broken = True


@dataclass(eq=False)
class Wire:
    """One process's way to the broker: both the channel that it dials and the stub upon it."""

    broker: "WiredBroker"
    name: str  # of whose it is
    streams: list[Stream] = field(default_factory=list)

    async def OpenProducer(  # noqa: N802 - grpc's name
        self, request: pb.OpenProducerRequest, **_: object
    ) -> pb.OpenProducerResponse:
        return self.broker.open(request)

    def Publish(self, **_: object) -> Stream:  # noqa: N802 - grpc's name
        self.streams.append(Stream())
        return self.streams[-1]

    async def close(self) -> None:
        for stream in self.streams:
            stream.cancel()


class WiredBroker:
    """The engine over a directory; what has arrived waits for the next commit."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.lost_answers = 0
        """Of so many opens from now on the answer is lost."""
        self._waiting: list[tuple[Stream, pb.PublishRequest]] = []
        self._start()

    def _start(self) -> None:
        self._disk = HastyDisk()
        self._running = running_engine(self._directory, self._disk)
        self.engine, _ = self._running.__enter__()

    def open(self, request: pb.OpenProducerRequest) -> pb.OpenProducerResponse:
        """Behind all that has arrived before. Raises what refuses it, or Unreachable where the answer is lost."""
        command = OpenProducer(ProducerId(request.producer_id), request.term, HolderId(request.holder_id))
        answer = self._commit(command, answers_arrive=True)
        if self.lost_answers:
            self.lost_answers -= 1
            raise Unreachable(address="the broker")
        if isinstance(answer, BrokerError):
            raise answer
        assert isinstance(answer, Opened)
        return pb.OpenProducerResponse(last_sequence=answer.last_sequence, cursor=answer.cursor, log_id=LOG)

    def arrive(self, stream: Stream) -> None:
        """The first that was written on it."""
        self._waiting.append((stream, stream.up.popleft()))

    def commit(self, *, answers_arrive: bool) -> None:
        """All that has arrived is durable; streams whose answers do not arrive break."""
        self._commit(None, answers_arrive=answers_arrive)

    def lose_power(self, bytes_written: int) -> None:
        """While it writes what has arrived; nobody is answered."""
        self._disk.budget = bytes_written
        with suppress(PowerLoss):  # a group of duplicates writes nothing
            self.engine.commit([_command(request) for _, request in self._waiting])
        self.restart()

    def restart(self) -> None:
        for stream, _ in self._waiting:
            stream.break_off()
        self._waiting.clear()
        self.stop()
        self._start()

    def stop(self) -> None:
        self._running.__exit__(None, None, None)

    def stored(self) -> list[list[str]]:
        """The bodies of each queue, in its order."""
        queues = [QueueKey(TOPIC.topic_id, number) for number in range(TOPIC.write_queues)]
        return [[body.decode() for body in bodies_of(self.engine, queue)] for queue in queues]

    def _commit(self, last: Command | None, *, answers_arrive: bool) -> Answer | BrokerError | None:
        waiting, self._waiting = self._waiting, []
        commands: list[Command] = [_command(request) for _, request in waiting]
        answers = self.engine.commit([*commands, *([last] if last is not None else [])]).answers
        for (stream, request), answer in zip(waiting, answers, strict=False):
            assert isinstance(answer, Published | BrokerError)
            if answers_arrive and not stream.is_broken:
                stream.down.put_nowait(from_published(ProducerId(request.producer_id), request.sequence, answer, LOG))
            else:
                stream.break_off()
        return answers[-1] if last is not None else None


def _command(request: pb.PublishRequest) -> StorePublish:
    given = to_publish(request)
    runs = [
        run
        for number, batch in enumerate(given.batches)
        for run in encode_batch(number, TOPIC, batch, given.sequence, 5)
    ]
    return StorePublish(
        given.producer_id, given.term, given.holder_id, given.sequence, given.cursor, runs, 5, given.transaction
    )
