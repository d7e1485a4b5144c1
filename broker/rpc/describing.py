"""The broker as a whole over gRPC."""

from broker.broker import Broker
from broker.rpc.context import Context
from broker.rpc.convert import describing as convert
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1 import broker_pb2_grpc


class DescribingCalls(broker_pb2_grpc.BrokerServiceServicer):
    """Message in, one call, message out."""

    _broker: Broker

    async def DescribeBroker(self, request: pb.DescribeBrokerRequest, context: Context) -> pb.DescribeBrokerResponse:
        return convert.from_description(await self._broker.describing.broker())
