"""Topics over gRPC."""

from broker.broker import Broker
from broker.model import TopicName
from broker.policies import to_topic_policy
from broker.rpc.context import Context
from broker.rpc.convert import topics as convert
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1 import broker_pb2_grpc


class TopicCalls(broker_pb2_grpc.BrokerServiceServicer):
    """Message in, one call, message out."""

    _broker: Broker

    async def CreateTopic(self, request: pb.CreateTopicRequest, context: Context) -> pb.CreateTopicResponse:
        policy = to_topic_policy(request.policy) if request.HasField("policy") else None
        topic = await self._broker.topics.create(TopicName(request.name), request.queues, policy)
        return pb.CreateTopicResponse(topic=self._topic(topic.name))

    async def AlterTopic(self, request: pb.AlterTopicRequest, context: Context) -> pb.AlterTopicResponse:
        topic = await self._broker.topics.alter(TopicName(request.name), convert.to_alteration(request))
        return pb.AlterTopicResponse(topic=self._topic(topic.name))

    async def DeleteTopic(self, request: pb.DeleteTopicRequest, context: Context) -> pb.DeleteTopicResponse:
        await self._broker.topics.delete(TopicName(request.name))
        return pb.DeleteTopicResponse()

    async def GetTopic(self, request: pb.GetTopicRequest, context: Context) -> pb.GetTopicResponse:
        return pb.GetTopicResponse(topic=self._topic(TopicName(request.name)))

    async def ListTopics(self, request: pb.ListTopicsRequest, context: Context) -> pb.ListTopicsResponse:
        return pb.ListTopicsResponse(topics=[self._topic(topic.name) for topic, _ in self._broker.topics.list()])

    def _topic(self, name: TopicName) -> pb.Topic:
        topic, queues = self._broker.topics.get(name)
        return convert.from_topic(topic, queues, self._broker.describing.topic(topic))
