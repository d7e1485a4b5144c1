"""The bulk API over gRPC."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from broker.broker import Broker
from broker.errors import BrokerError, BrokerStopping
from broker.model import GroupName, HolderId, MemberId, ProducerId, Published, TopicName
from broker.rpc import convert
from broker.writer import Answering
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1 import broker_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_IN_FLIGHT = 256  # publishes of one stream that are not answered yet
_ANSWER_SECONDS = 0.2  # of a caller's deadline, kept back for the way of an empty answer

_Given = tuple[ProducerId, int, Answering | BrokerError]
"""Whose publish, its sequence, its answer: not the request, whose bytes must not wait for a slow reader of answers."""


class BulkService(broker_pb2_grpc.BrokerServiceServicer):
    """Message in, one call, message out."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def OpenProducer(self, request: pb.OpenProducerRequest, context: Context) -> pb.OpenProducerResponse:
        opened = await self._broker.open_producer(
            ProducerId(request.producer_id), request.term, HolderId(request.holder_id)
        )
        return pb.OpenProducerResponse(
            last_sequence=opened.last_sequence, cursor=opened.cursor, log_id=self._broker.log_id
        )

    async def GetProducer(self, request: pb.GetProducerRequest, context: Context) -> pb.GetProducerResponse:
        state = await self._broker.get_producer(ProducerId(request.producer_id))
        return pb.GetProducerResponse(producer=convert.from_producer(request.producer_id, state))

    async def ForgetProducer(self, request: pb.ForgetProducerRequest, context: Context) -> pb.ForgetProducerResponse:
        return pb.ForgetProducerResponse(forgotten=await self._broker.forget_producer(request.producer_id))

    async def Publish(
        self, requests: AsyncIterable[pb.PublishRequest], context: Context
    ) -> AsyncIterator[pb.PublishResponse]:
        """Reads on while answers wait for their sync, and answers in the order of the requests."""
        taken: asyncio.Queue[_Given | None] = asyncio.Queue()
        room = asyncio.Semaphore(_IN_FLIGHT)
        taking = asyncio.create_task(self._take_all(requests, taken, room))
        stopping = asyncio.create_task(self._broker.stopping.wait())
        for task in (taking, stopping):
            task.add_done_callback(lambda _: taken.put_nowait(None))
        try:
            while (given := await taken.get()) is not None:
                producer_id, sequence, answering = given
                answer = answering if isinstance(answering, BrokerError) else await answering
                room.release()
                assert isinstance(answer, Published | BrokerError)
                yield convert.from_published(producer_id, sequence, answer, self._broker.log_id)
            if not taking.done():
                raise BrokerStopping
            await taking  # for what it may raise
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
            return await self._broker.publish(convert.to_publish(request))
        except BrokerStopping:
            raise
        except BrokerError as refusal:
            return refusal

    async def Fetch(self, request: pb.FetchRequest, context: Context) -> pb.FetchResponse:
        fetched = await self._broker.fetch(convert.to_wanted(request, _waits(context.time_remaining())))
        return convert.from_fetched(fetched, self._broker.log_id)

    async def BeatGroup(self, request: pb.BeatGroupRequest, context: Context) -> pb.BeatGroupResponse:
        return convert.from_beat_answer(await self._broker.beat(convert.to_beat(request)))

    async def ReleaseQueues(self, request: pb.ReleaseQueuesRequest, context: Context) -> pb.ReleaseQueuesResponse:
        claims = [*map(convert.to_claim, request.claims)]
        await self._broker.groups.release(GroupName(request.group), MemberId(request.member_id), claims)
        return pb.ReleaseQueuesResponse()

    async def LeaveGroup(self, request: pb.LeaveGroupRequest, context: Context) -> pb.LeaveGroupResponse:
        await self._broker.groups.leave(GroupName(request.group), MemberId(request.member_id))
        return pb.LeaveGroupResponse()

    async def Commit(self, request: pb.CommitRequest, context: Context) -> pb.CommitResponse:
        commits = [*map(convert.to_commit, request.commits)]
        committed = await self._broker.groups.commit(GroupName(request.group), MemberId(request.member_id), commits)
        return pb.CommitResponse(committed=map(convert.from_commit, committed))

    async def GetGroup(self, request: pb.GetGroupRequest, context: Context) -> pb.GetGroupResponse:
        group, ranges = await self._broker.groups.get(GroupName(request.group))
        expires_at_ms = self._broker.groups.expires_at_ms(group)
        return pb.GetGroupResponse(group=convert.from_group(group, ranges, expires_at_ms))

    async def ListGroups(self, request: pb.ListGroupsRequest, context: Context) -> pb.ListGroupsResponse:
        return pb.ListGroupsResponse(names=self._broker.groups.list())

    async def CreateTopic(self, request: pb.CreateTopicRequest, context: Context) -> pb.CreateTopicResponse:
        topic = await self._broker.create_topic(TopicName(request.name), request.queues)
        return pb.CreateTopicResponse(topic=convert.from_topic(*self._broker.get_topic(topic.name)))

    async def GetTopic(self, request: pb.GetTopicRequest, context: Context) -> pb.GetTopicResponse:
        return pb.GetTopicResponse(topic=convert.from_topic(*self._broker.get_topic(TopicName(request.name))))

    async def ListTopics(self, request: pb.ListTopicsRequest, context: Context) -> pb.ListTopicsResponse:
        return pb.ListTopicsResponse(topics=(convert.from_topic(*known) for known in self._broker.list_topics()))


def _waits(time_remaining: float | None) -> float | None:
    """How long an answer may take so that it still reaches its caller; None: as long as it likes."""
    return None if time_remaining is None else time_remaining - _ANSWER_SECONDS
