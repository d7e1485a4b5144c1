"""Leases as the room of groups sees them: by the names of topics."""

from collections import defaultdict

from broker.engine.leasing.commands import (
    DropLeases,
    DropTopicLeases,
    GetLeases,
    GiveBackLeases,
    ResetLeases,
)
from broker.engine.leasing.room import Leasing
from broker.groups.answers import Floors, LeaseCounts
from broker.model import GroupName, MemberId, Topic, TopicId, TopicQueue
from broker.queues.topics import Topics


class GroupLeases:
    """For the writer's thread, but for `floors`."""

    def __init__(self, leasing: Leasing, topics: Topics) -> None:
        self._leasing = leasing
        self._topics = topics

    def counts(self, group: GroupName, now_ms: int) -> LeaseCounts:
        """All zero for a group that has none."""
        report = self._leasing.do_for_group(GetLeases(group), now_ms)
        queues = report.queues.values()
        until_ms = max((each.until_ms for each in queues), default=0)
        return LeaseCounts(sum(each.leased for each in queues), sum(each.waiting for each in queues), until_ms)

    def floors(self, group: GroupName) -> Floors:
        """Of every queue that the group ever leased from."""
        floors = self._leasing.floors(group)
        known = ((self._topics.by_id(key.topic_id), key.queue, floor) for key, floor in floors.items())
        return {TopicQueue(topic.name, queue): floor for topic, queue, floor in known if topic is not None}

    def restart(self, group: GroupName, floors: Floors, now_ms: int) -> None:
        """Makes void what is leased or waits in these queues, and goes on at the floors."""
        by_topic = defaultdict[TopicId, dict[int, int]](dict)
        for at, floor in floors.items():
            if (topic := self._topics.get(at.topic)) is not None:
                by_topic[topic.topic_id][at.queue] = floor
        for topic_id, offsets in by_topic.items():
            self._leasing.do_for_group(ResetLeases(group, topic_id, offsets), now_ms)

    def give_back(self, group: GroupName, member_id: MemberId, now_ms: int) -> None:
        """Takes everything back that the member has."""
        self._leasing.do_for_group(GiveBackLeases(group, member_id), now_ms)

    def forget(self, group: GroupName, now_ms: int) -> None:
        """Drops everything of the group."""
        self._leasing.do_for_group(DropLeases(group), now_ms)

    def forget_topic(self, topic: Topic, now_ms: int) -> None:
        """Drops everything of the topic, in all groups."""
        self._leasing.do_for_group(DropTopicLeases(topic.topic_id), now_ms)
