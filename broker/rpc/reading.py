"""Reads by offset, time and key over gRPC."""

from broker.broker import Broker
from broker.model import TopicName
from broker.rpc.context import Context, waits
from broker.rpc.convert import reading as convert
from broker.rpc.limits import Open, Untaken
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1 import broker_pb2_grpc

_FOUND_MESSAGES = 32  # unless the request says otherwise


class ReadingCalls(broker_pb2_grpc.BrokerServiceServicer):
    """Message in, one call, message out."""

    _broker: Broker
    _reads: Open
    _untaken: Untaken

    async def Fetch(self, request: pb.FetchRequest, context: Context) -> pb.FetchResponse:
        wanted = convert.to_wanted(request, waits(context.time_remaining()))
        with self._reads.one_more():
            answer = self._untaken.answer(context)
            fetched = await self._broker.reading.fetch(wanted, answer.reserve)
            response = convert.from_fetched(fetched, self._broker.log_id)
            answer.is_made(response.ByteSize())
            return response

    async def FindOffsets(self, request: pb.FindOffsetsRequest, context: Context) -> pb.FindOffsetsResponse:
        return pb.FindOffsetsResponse(
            offsets=await self._broker.finding.offsets(TopicName(request.topic), request.at_ms)
        )

    async def FindMessages(self, request: pb.FindMessagesRequest, context: Context) -> pb.FindMessagesResponse:
        limit = request.max_messages or _FOUND_MESSAGES
        topic, found = await self._broker.finding.messages(TopicName(request.topic), request.key, limit)
        return convert.from_found(topic, found, self._broker.log_id)
