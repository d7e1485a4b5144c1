"""Topics."""

from collections.abc import Iterable

from broker.face.upkeep.describing import Activity
from broker.model import QueueRange, Topic
from broker.policies import from_topic_policy, to_topic_policy
from broker.queues.altered.alteration import Alteration
from protos.broker.v1 import broker_pb2 as pb


def from_topic(topic: Topic, queues: Iterable[QueueRange], activity: Activity) -> pb.Topic:
    held = (pb.QueueRange(lowest_offset=queue.lowest_offset, end_offset=queue.end_offset) for queue in queues)
    return pb.Topic(
        name=topic.name,
        topic_id=topic.topic_id,
        queues=held,
        write_queues=topic.write_queues,
        policy=from_topic_policy(topic.policy),
        delayed=activity.delayed,
        published_per_second=activity.published_per_second,
        messages=activity.messages,
    )


def to_alteration(request: pb.AlterTopicRequest) -> Alteration:
    return Alteration(
        request.write_queues or None,
        request.read_queues or None,
        to_topic_policy(request.policy) if request.HasField("policy") else None,
    )
