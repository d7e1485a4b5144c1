"""Reads by offset, time and key over gRPC."""

from broker.broker import Broker
from broker.rpc import convert
from broker.rpc.context import Context, waits
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1 import broker_pb2_grpc


class ReadingCalls(broker_pb2_grpc.BrokerServiceServicer):
    """Message in, one call, message out."""

    _broker: Broker

    async def Fetch(self, request: pb.FetchRequest, context: Context) -> pb.FetchResponse:
        fetched = await self._broker.reading.fetch(convert.to_wanted(request, waits(context.time_remaining())))
        return convert.from_fetched(fetched, self._broker.log_id)
