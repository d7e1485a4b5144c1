"""Transactions and delayed messages over gRPC."""

from collections.abc import AsyncIterator

from broker.broker import Broker
from broker.errors import BrokerStopping
from broker.model import TransactionId
from broker.rpc.context import Context
from broker.rpc.convert import transactions as convert
from broker.rpc.limits import Open
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1 import broker_pb2_grpc


class TransactionCalls(broker_pb2_grpc.BrokerServiceServicer):
    """Message in, one call, message out."""

    _broker: Broker
    _watches: Open

    async def Recall(self, request: pb.RecallRequest, context: Context) -> pb.RecallResponse:
        await self._broker.delays.recall(request.handle)
        return pb.RecallResponse()

    async def EndTransaction(self, request: pb.EndTransactionRequest, context: Context) -> pb.EndTransactionResponse:
        outcome = convert.to_outcome(request.outcome)
        ended = await self._broker.transactions.end(TransactionId(request.transaction_id), outcome)
        return convert.from_ended(ended)

    async def WatchTransactions(
        self, request: pb.WatchTransactionsRequest, context: Context
    ) -> AsyncIterator[pb.WatchTransactionsResponse]:
        with self._watches.one_more(), self._broker.transactions.watch(request.producer_group) as watcher:
            while (check := await watcher.get()) is not None:
                if (asked := await self._broker.transactions.read(check)) is not None:
                    yield convert.from_asked(asked)
        raise BrokerStopping
