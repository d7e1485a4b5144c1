"""Leases and dead letters over gRPC."""

from broker.broker import Broker
from broker.model import GroupName, TopicName
from broker.rpc.context import Context, waits
from broker.rpc.convert import leasing as convert
from broker.rpc.limits import Open, Untaken
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1 import broker_pb2_grpc


class LeasingCalls(broker_pb2_grpc.BrokerServiceServicer):
    """Message in, one call, message out."""

    _broker: Broker
    _reads: Open
    _untaken: Untaken

    async def Lease(self, request: pb.LeaseRequest, context: Context) -> pb.LeaseResponse:
        wanted = convert.to_wanted_lease(request, waits(context.time_remaining()))
        with self._reads.one_more():
            answer = self._untaken.answer(context)
            batch = await self._broker.leasing.lease(wanted)
            response = convert.from_leased(batch, self._broker.log_id)
            async with self._broker.leasing.on_its_way(wanted, batch):
                await answer.reserve(response.ByteSize())
            return response

    async def Settle(self, request: pb.SettleRequest, context: Context) -> pb.SettleResponse:
        settlements = [*map(convert.to_settlement, request.settlements)]
        member_id = convert.to_member(request.member_id)
        refused = await self._broker.leasing.settle(
            GroupName(request.group), member_id, TopicName(request.topic), settlements
        )
        return convert.from_refused(refused)

    async def GiveUp(self, request: pb.GiveUpRequest, context: Context) -> pb.GiveUpResponse:
        await self._broker.dead_letters.give_up(convert.to_given_up(request))
        return pb.GiveUpResponse()

    async def ResendDeadLetters(
        self, request: pb.ResendDeadLettersRequest, context: Context
    ) -> pb.ResendDeadLettersResponse:
        resent = await self._broker.dead_letters.resend(convert.to_wanted_resend(request))
        return pb.ResendDeadLettersResponse(resent=resent.count, next_offset=resent.next_offset)

    async def PurgeDeadLetters(
        self, request: pb.PurgeDeadLettersRequest, context: Context
    ) -> pb.PurgeDeadLettersResponse:
        purged = await self._broker.dead_letters.purge(GroupName(request.group), [*request.offsets])
        return pb.PurgeDeadLettersResponse(purged=purged)
