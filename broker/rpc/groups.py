"""Consumer groups over gRPC."""

from broker.broker import Broker
from broker.model import GroupName, MemberId
from broker.policies import from_group_policy, to_group_policy
from broker.rpc.context import Context
from broker.rpc.convert import groups as convert
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1 import broker_pb2_grpc


class GroupCalls(broker_pb2_grpc.BrokerServiceServicer):
    """Message in, one call, message out."""

    _broker: Broker

    async def BeatGroup(self, request: pb.BeatGroupRequest, context: Context) -> pb.BeatGroupResponse:
        return convert.from_beat_answer(await self._broker.groups.beat(convert.to_beat(request)))

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
        return pb.GetGroupResponse(group=convert.from_group(await self._broker.groups.get(GroupName(request.group))))

    async def ListGroups(self, request: pb.ListGroupsRequest, context: Context) -> pb.ListGroupsResponse:
        return pb.ListGroupsResponse(names=self._broker.groups.names())

    async def AlterGroup(self, request: pb.AlterGroupRequest, context: Context) -> pb.AlterGroupResponse:
        policy = await self._broker.groups.alter(GroupName(request.group), to_group_policy(request.policy))
        return pb.AlterGroupResponse(policy=from_group_policy(policy))

    async def DeleteGroup(self, request: pb.DeleteGroupRequest, context: Context) -> pb.DeleteGroupResponse:
        await self._broker.groups.delete(GroupName(request.group))
        return pb.DeleteGroupResponse()

    async def ResetOffsets(self, request: pb.ResetOffsetsRequest, context: Context) -> pb.ResetOffsetsResponse:
        return convert.from_reset(await self._broker.groups.reset(convert.to_reset(request)))
