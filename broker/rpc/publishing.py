"""Producers and their publishes over gRPC."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

from broker.broker import Broker
from broker.errors import BrokerError, BrokerStopping
from broker.model import HolderId, ProducerId, Publish, Published
from broker.rpc.context import Context
from broker.rpc.convert import publishing as convert
from broker.rpc.limits import Open
from broker.writer import Answering
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1 import broker_pb2_grpc

_IN_FLIGHT = 256  # publishes of one stream that are not answered yet

_Given = tuple[ProducerId, int, Answering | BrokerError]
"""Whose publish, its sequence, its answer: not the request, whose bytes must not wait for a slow reader of answers."""


class PublishingCalls(broker_pb2_grpc.BrokerServiceServicer):
    """Message in, one call, message out."""

    _broker: Broker
    _streams: Open

    async def OpenProducer(self, request: pb.OpenProducerRequest, context: Context) -> pb.OpenProducerResponse:
        opened = await self._broker.publishing.open_producer(
            ProducerId(request.producer_id), request.term, HolderId(request.holder_id)
        )
        return pb.OpenProducerResponse(
            last_sequence=opened.last_sequence, cursor=opened.cursor, log_id=self._broker.log_id
        )

    async def GetProducer(self, request: pb.GetProducerRequest, context: Context) -> pb.GetProducerResponse:
        state = await self._broker.publishing.get_producer(ProducerId(request.producer_id))
        return pb.GetProducerResponse(producer=convert.from_producer(request.producer_id, state))

    async def ForgetProducer(self, request: pb.ForgetProducerRequest, context: Context) -> pb.ForgetProducerResponse:
        return pb.ForgetProducerResponse(forgotten=await self._broker.publishing.forget_producer(request.producer_id))

    async def Publish(
        self, requests: AsyncIterable[pb.PublishRequest], context: Context
    ) -> AsyncIterator[pb.PublishResponse]:
        """Reads on while answers wait for their sync, and answers in the order of the requests."""
        taken: asyncio.Queue[_Given | None] = asyncio.Queue()
        room = asyncio.Semaphore(_IN_FLIGHT)
        async with self._taking(requests, taken, room) as taking:
            while (given := await taken.get()) is not None:
                producer_id, sequence, answering = given
                answer = answering if isinstance(answering, BrokerError) else await answering
                room.release()
                assert isinstance(answer, Published | BrokerError)
                if isinstance(answer, BrokerError):
                    self._broker.measuring.refused(answer.code)
                yield convert.from_published(producer_id, sequence, answer, self._broker.log_id)
            if not taking.done():
                raise BrokerStopping
            await taking  # for what it may raise

    @asynccontextmanager
    async def _taking(
        self, requests: AsyncIterable[pb.PublishRequest], taken: asyncio.Queue[_Given | None], room: asyncio.Semaphore
    ) -> AsyncIterator[asyncio.Task[None]]:
        """Takes requests inside the block; `taken` ends with None, also when the broker stops. Raises TooMany."""
        with self._streams.one_more():
            taking = asyncio.create_task(self._take_all(requests, taken, room))
            stopping = asyncio.create_task(self._broker.stopping.wait())
            for task in (taking, stopping):
                task.add_done_callback(lambda _: taken.put_nowait(None))
            try:
                yield taking
            finally:
                taking.cancel()
                stopping.cancel()
                await asyncio.wait((taking, stopping))

    async def _take_all(
        self, requests: AsyncIterable[pb.PublishRequest], taken: asyncio.Queue[_Given | None], room: asyncio.Semaphore
    ) -> None:
        async for request in requests:
            await room.acquire()
            answering = await self._submit(request)
            taken.put_nowait((ProducerId(request.producer_id), request.sequence, answering))

    async def _submit(self, request: pb.PublishRequest) -> Answering | BrokerError:
        try:
            return await self._broker.publishing.publish(await _converted(request))
        except BrokerStopping:
            raise
        except BrokerError as refusal:
            return refusal


async def _converted(request: pb.PublishRequest) -> Publish:
    """Beside the event loop if that takes long. Raises BadRequest, TooMany."""
    if convert.is_quick(request):
        return convert.to_publish(request)
    return await asyncio.to_thread(convert.to_publish, request)
