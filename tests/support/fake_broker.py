"""A broker over real gRPC whose answers a test scripts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from broker.errors import BrokerStopping
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1 import broker_pb2_grpc
from protos.server import Service, serve

Answer = Callable[[pb.PublishRequest], pb.PublishResponse | None]
"""What a publish is answered; None: the stream breaks there."""


def stored(request: pb.PublishRequest) -> pb.PublishResponse:
    published = pb.Published(log_id="log", ranges=[pb.Range(count=len(batch.bodies)) for batch in request.batches])
    return pb.PublishResponse(producer_id=request.producer_id, sequence=request.sequence, published=published)


class FakeBroker(broker_pb2_grpc.BrokerServiceServicer):
    """One group with one queue that never ends, and producers that are answered as the test says."""

    def __init__(self) -> None:
        self.answer: Answer = stored
        self.last_sequence = 0
        self.streams: list[list[bytes]] = []
        """The requests of each publish stream as they came."""
        self.owned: list[pb.Assignment] = []
        self.release: list[pb.Claim] = []
        self.beat_error: Exception | None = None
        self.fetch_error: Exception | None = None
        self.release_error: Exception | None = None
        self.committed = 0
        self.released = asyncio.Event()
        self.has_beaten = asyncio.Condition()

    @property
    def requests(self) -> list[list[int]]:
        """The sequences of each publish stream."""
        return [[pb.PublishRequest.FromString(data).sequence for data in stream] for stream in self.streams]

    async def beats(self, count: int = 2) -> None:
        """Returns when so many beats more were answered: the last of them was asked after this call."""
        async with self.has_beaten:
            for _ in range(count):
                await self.has_beaten.wait()

    async def OpenProducer(self, request: pb.OpenProducerRequest, context: object) -> pb.OpenProducerResponse:  # noqa: N802
        return pb.OpenProducerResponse(log_id="log", last_sequence=self.last_sequence)

    async def Publish(  # noqa: N802
        self, requests: AsyncIterator[pb.PublishRequest], context: object
    ) -> AsyncIterator[pb.PublishResponse]:
        stream: list[bytes] = []
        self.streams.append(stream)
        async for request in requests:
            stream.append(request.SerializeToString(deterministic=True))
            response = self.answer(request)
            if response is None:
                raise BrokerStopping
            yield response

    async def BeatGroup(self, request: pb.BeatGroupRequest, context: object) -> pb.BeatGroupResponse:  # noqa: N802
        if self.beat_error is not None:
            raise self.beat_error
        async with self.has_beaten:
            self.has_beaten.notify_all()
        return pb.BeatGroupResponse(owned=self.owned, release=self.release, beat_period_ms=10)

    async def Fetch(self, request: pb.FetchRequest, context: object) -> pb.FetchResponse:  # noqa: N802
        if self.fetch_error is not None:
            raise self.fetch_error
        body = str(request.offset).encode()
        at = request.offset
        return pb.FetchResponse(first_offset=at, bodies=[body], published_at_ms=[0], next_offset=at + 1)

    async def Commit(self, request: pb.CommitRequest, context: object) -> pb.CommitResponse:  # noqa: N802
        self.committed = max(self.committed, *(commit.offset for commit in request.commits))
        return pb.CommitResponse()

    async def ReleaseQueues(self, request: pb.ReleaseQueuesRequest, context: object) -> pb.ReleaseQueuesResponse:  # noqa: N802
        self.released.set()
        if self.release_error is not None:
            raise self.release_error
        return pb.ReleaseQueuesResponse()

    async def LeaveGroup(self, request: pb.LeaveGroupRequest, context: object) -> pb.LeaveGroupResponse:  # noqa: N802
        return pb.LeaveGroupResponse()


@asynccontextmanager
async def running_fake(broker: FakeBroker) -> AsyncIterator[str]:
    """Serves it; yields "host:port"."""
    service = Service("shardcast.broker.v1.BrokerService", broker_pb2_grpc.add_BrokerServiceServicer_to_server, broker)
    async with serve("127.0.0.1", 0, [service], grace_seconds=0) as listening:
        yield f"127.0.0.1:{listening.port}"
