"""Topics over real gRPC: created, altered, deleted; permissions, rates, and keys in order over altered queues."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import pytest

from broker.client import GroupClient, TopicClient
from broker.errors import (
    BadName,
    BadRequest,
    NotOwner,
    QueueNotDrained,
    TopicExists,
    TopicPermission,
    UnknownQueue,
    UnknownTopic,
)
from broker.model import TopicPolicy
from broker.testing import running_broker
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import dial, renamed

pytestmark = pytest.mark.anyio

READ_ONLY = TopicPolicy(is_writable=False)
WRITE_ONLY = TopicPolicy(is_readable=False)
UNDER = {queue: next(f"k{n}" for n in range(1_000) if crc32(b"k%d" % n) % 8 == queue) for queue in range(8)}
"""A key for each of eight queues."""


@dataclass
class Reached:
    """A broker, its topics, and a producer that keeps count of its sequence."""

    stub: BrokerServiceStub
    topics: TopicClient
    endpoint: str
    producer_id: str = "run/r/0"
    sequence: int = 0

    async def publish(self, *bodies: bytes, topic: str = "t", keys: Iterable[str] = ()) -> pb.PublishResponse:
        if not self.sequence:
            opening = pb.OpenProducerRequest(producer_id=self.producer_id, term=1, holder_id="h")
            self.sequence = (await self.stub.OpenProducer(opening)).last_sequence
        batch = pb.TopicBatch(topic=topic, bodies=bodies, keys=keys)
        request = pb.PublishRequest(
            producer_id=self.producer_id, term=1, holder_id="h", sequence=self.sequence + 1, batches=[batch]
        )
        (answer,) = [answer async for answer in self.stub.Publish(iter([request]))]
        self.sequence += answer.HasField("published")
        return answer

    async def fetch(self, queue: int, offset: int = 0, *, wait_ms: int = 0, **more: str) -> pb.FetchResponse:
        request = pb.FetchRequest(topic="t", queue=queue, offset=offset, wait_ms=wait_ms, **more)
        with renamed(self.endpoint):
            return await self.stub.Fetch(request, timeout=20)

    async def join(self, group: str = "g") -> dict[int, pb.Claim]:
        """The member owns every queue; by number."""
        beat = pb.BeatGroupRequest(group=group, member_id="m", topics=["t"], session_timeout_ms=60_000)
        return {each.claim.queue: each.claim for each in (await self.stub.BeatGroup(beat)).owned}

    async def commit(self, claim: pb.Claim, offset: int) -> None:
        commits = [pb.OffsetCommit(claim=claim, offset=offset)]
        await self.stub.Commit(pb.CommitRequest(group="g", member_id="m", commits=commits))


@asynccontextmanager
async def reached(data: Path, **settings: object) -> AsyncIterator[Reached]:
    async with running_broker(data, **settings) as endpoint, dial(endpoint) as channel, TopicClient(endpoint) as topics:
        yield Reached(BrokerServiceStub(channel), topics, endpoint)


async def test_a_topic_is_created_with_its_policy_and_described_also_after_a_restart(tmp_path: Path) -> None:
    policy = TopicPolicy(retention_bytes=5, messages_per_second=1.5)
    async with reached(tmp_path) as broker:
        created = await broker.topics.create("t", 2, policy)
        assert (created.write_queues, len(created.queues), created.policy) == (2, 2, policy)
        assert await broker.topics.create("t", 2, policy) == await broker.topics.create("t", 2) == created
        with pytest.raises(TopicExists):
            await broker.topics.create("t", 2, TopicPolicy())
        with pytest.raises(TopicExists):
            await broker.topics.create("t", 3)
    async with reached(tmp_path) as broker:
        assert await broker.topics.list() == [created]


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
async def test_a_rate_that_cannot_be_is_refused(tmp_path: Path, rate: float) -> None:
    async with reached(tmp_path) as broker:
        with pytest.raises(BadRequest, match="messages a second"):
            await broker.topics.create("t", 1, TopicPolicy(messages_per_second=rate))


async def test_permissions_are_kept(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        await broker.topics.create("t", 1)
        await broker.publish(b"a")
        await broker.topics.alter("t", policy=READ_ONLY)
        refused = (await broker.publish(b"b")).refusal
        assert (refused.code, refused.message) == ("topic_permission", "Topic t is not writable.")
        assert [*(await broker.fetch(0)).bodies] == [b"a"]
        await broker.topics.alter("t", policy=WRITE_ONLY)
        assert (await broker.publish(b"b")).published.ranges
        with pytest.raises(TopicPermission, match="not readable"):
            await broker.fetch(0)
        with renamed(broker.endpoint), pytest.raises(TopicPermission, match="not readable"):
            await leased(broker)


async def test_who_lost_the_answer_of_a_publish_hears_that_it_is_stored_whatever_became_of_its_topic(
    tmp_path: Path,
) -> None:
    async with reached(tmp_path, create_topics=False) as broker:
        await broker.topics.create("t", 1)
        await broker.publish(b"before")
        stored = await broker.publish(b"a")
        await broker.topics.alter("t", policy=READ_ONLY)
        broker.sequence -= 1
        again = (await broker.publish(b"a")).published
        assert (again.duplicate, again.ranges) == (True, stored.published.ranges)
        await broker.topics.delete("t")
        broker.sequence -= 1
        assert (await broker.publish(b"a")).published.duplicate
        assert (await broker.publish(b"b")).refusal.code == "unknown_topic"
        broker.sequence += 1
        assert (await broker.publish(b"c")).refusal.code == "sequence_gap"


async def leased(broker: Reached) -> pb.LeaseResponse:
    with renamed(broker.endpoint):
        return await broker.stub.Lease(pb.LeaseRequest(group="l", member_id="m", topic="t"), timeout=20)


async def test_a_long_poll_hears_that_its_topic_is_closed_or_gone(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        await broker.topics.create("t", 1)
        poll = asyncio.create_task(broker.fetch(0, wait_ms=20_000))
        await asyncio.wait((poll,), timeout=0.1)
        await broker.topics.alter("t", policy=WRITE_ONLY)
        with pytest.raises(TopicPermission):
            await poll
        await broker.topics.alter("t", policy=TopicPolicy())
        poll = asyncio.create_task(broker.fetch(0, wait_ms=20_000))
        await asyncio.wait((poll,), timeout=0.1)
        await broker.topics.delete("t")
        with pytest.raises(UnknownTopic):
            await poll


async def test_the_brokers_own_names_are_not_for_users(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        with pytest.raises(BadName):
            await broker.topics.create("%mine")
        with pytest.raises(TopicPermission, match="broker's own"):
            await broker.topics.alter("%DLQ%g", write_queues=2)
        assert (await broker.publish(b"a", topic="%DLQ%g")).refusal.code == "topic_permission"
        with pytest.raises(UnknownTopic):
            await broker.topics.get("%DLQ%g")


async def test_a_deleted_topic_is_gone_with_all_that_groups_knew_and_its_id_never_comes_again(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        first = await broker.topics.create("t", 1)
        await broker.publish(b"old", b"older")
        await broker.commit((await broker.join())[0], 2)
        await broker.topics.delete("t")
        with pytest.raises(UnknownTopic):
            await broker.topics.delete("t")
        assert not (tmp_path / "queues" / str(first.topic_id)).exists()
    async with reached(tmp_path) as broker:
        assert await broker.topics.list() == []
        second = await broker.topics.create("t", 1)
        assert second.topic_id > first.topic_id
        assert second.messages == 0
        await broker.publish(b"new")
        fetched = await broker.fetch(0)
        assert ([*fetched.bodies], fetched.topic_id) == ([b"new"], second.topic_id)
        claims = await broker.join()
        state = (await broker.stub.GetGroup(pb.GetGroupRequest(group="g"))).group.queues
        assert [(queue.queue, queue.committed_offset) for queue in state] == [(0, 0)] == [(*claims, 0)]


async def test_who_still_reads_the_old_topic_cannot_commit_to_the_new_one(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        await broker.topics.create("t", 1)
        await broker.publish(b"a", b"b")
        old = (await broker.join())[0]
        await broker.topics.delete("t")
        await broker.topics.create("t", 1)
    async with reached(tmp_path) as broker:
        await broker.publish(b"c", b"d")
        new = (await broker.join())[0]
        with pytest.raises(NotOwner), renamed(broker.endpoint):
            await broker.commit(old, 2)
        await broker.commit(new, 1)


async def test_a_deleted_topic_stays_gone_when_the_log_is_read_again(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        await broker.topics.create("t", 1)
        await broker.publish(b"gone")
        await broker.publish(b"kept", topic="other")
        await broker.topics.delete("t")
    (tmp_path / "checkpoint.json").unlink()  # as if it had been killed before it wrote one
    async with reached(tmp_path) as broker:
        assert [topic.name for topic in await broker.topics.list()] == ["other"]
        assert (await broker.topics.get("other")).messages == 1
        assert [path.name for path in (tmp_path / "queues").iterdir()] == ["2"]


async def test_a_queue_goes_when_every_group_has_read_it(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        await broker.topics.create("t", 2)
        await broker.publish(b"a", b"b", keys=[UNDER[1], UNDER[1]])
        claims = await broker.join()
        assert (await broker.topics.alter("t", write_queues=1)).write_queues == 1
        await broker.commit(claims[1], 1)
        with pytest.raises(QueueNotDrained, match=r"t/1 .* g .* 1 of 2"):
            await broker.topics.alter("t", read_queues=1, policy=READ_ONLY)
        assert (await broker.topics.get("t")).policy.is_writable
        await broker.commit(claims[1], 2)
        assert len((await broker.topics.alter("t", read_queues=1)).queues) == 1


async def test_a_queue_that_went_is_given_back_and_goes_on_where_it_was_when_it_returns(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        await broker.topics.create("t", 2)
        await broker.publish(b"a", keys=[UNDER[1]])
        claims = await broker.join()
        await broker.commit(claims[1], 1)
        await broker.topics.alter("t", write_queues=1, read_queues=1)
        with pytest.raises(UnknownQueue):
            await broker.fetch(1, 1, group="g")
        with pytest.raises(NotOwner), renamed(broker.endpoint):
            await broker.commit(claims[1], 1)
        assert [*await broker.join()] == [0]
        await broker.topics.alter("t", write_queues=2)
        await broker.publish(b"b", keys=[UNDER[1]])
        claims = await broker.join()
        fetched = await broker.fetch(1, 1, group="g")
        assert ([*claims], [*fetched.bodies], fetched.first_offset) == ([0, 1], [b"b"], 1)
        state = (await broker.stub.GetGroup(pb.GetGroupRequest(group="g"))).group.queues
        assert [queue.committed_offset for queue in state] == [0, 1]


async def test_a_group_reads_a_new_queue_once_it_has_read_what_its_keys_left_behind(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        await broker.topics.create("t", 4)
        key = UNDER[5]
        await broker.publish(b"first", keys=[key])
        await broker.topics.alter("t", write_queues=8)
        await broker.publish(b"second", keys=[key])
        claims = await broker.join()
        assert len(claims) == 8
        assert [*(await broker.fetch(5)).bodies] == [b"second"]  # a look, for nobody
        assert not (await broker.fetch(5, group="g")).bodies
        poll = asyncio.create_task(broker.fetch(5, group="g", wait_ms=20_000))
        await asyncio.wait((poll,), timeout=0.1)
        assert not poll.done()
        assert [*(await broker.fetch(1, group="g")).bodies] == [b"first"]
        await broker.commit(claims[1], 1)
        assert [*(await asyncio.wait_for(poll, 10)).bodies] == [b"second"]


async def test_a_group_that_leases_keeps_the_order_over_altered_queues_too(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        await broker.topics.create("t", 4)
        for queues, body in ((8, b"first"), (2, b"second"), (4, b"third")):
            await broker.publish(body, keys=[UNDER[7]])
            await broker.topics.alter("t", write_queues=queues)
        await broker.publish(b"fourth", keys=[UNDER[7]])
        for body in (b"first", b"second", b"third", b"fourth"):
            messages = (await leased(broker)).messages
            assert [*messages.bodies] == [body]
            settlement = pb.Settlement(
                queue=messages.queues[0], offsets=messages.offsets, attempts=[1], action=pb.ACTION_ACKNOWLEDGE
            )
            await broker.stub.Settle(
                pb.SettleRequest(group="l", member_id="m", topic="t", settlements=[settlement]), timeout=20
            )


async def test_who_waits_keeps_the_order_over_queues_that_were_altered_meanwhile(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        await broker.topics.create("t", 4)
        await broker.publish(b"first", keys=[UNDER[3]])
        first = (await leased(broker)).messages
        assert [*first.bodies] == [b"first"]
        request = pb.LeaseRequest(group="l", member_id="other", topic="t", lease_ms=30_000, wait_ms=20_000)
        waiting = asyncio.ensure_future(broker.stub.Lease(request, timeout=30))
        async with GroupClient(broker.endpoint) as groups:
            while len((await groups.get("l")).members) < 2:
                await asyncio.sleep(0)
        await broker.topics.alter("t", write_queues=2)
        await broker.publish(b"second", keys=[UNDER[3]])
        await broker.publish(b"third", keys=[UNDER[0]])
        assert b"second" not in (await waiting).messages.bodies, "the first one is not done"


async def test_who_publishes_too_fast_waits_and_others_do_not(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        await broker.topics.create("t", 1, TopicPolicy(messages_per_second=0.001))
        assert (await broker.publish(b"a", b"b")).published.ranges  # more than a second's worth: leaves a debt
        late = asyncio.create_task(broker.publish(b"c"))
        await asyncio.wait((late,), timeout=0.1)
        other = Reached(broker.stub, broker.topics, broker.endpoint, "run/r/1")
        assert (await other.publish(b"d", topic="other")).published.ranges
        assert not late.done()
        assert (await broker.topics.get("t")).messages == 2
        await broker.topics.alter("t", policy=TopicPolicy())
        assert (await late).published.ranges


async def test_a_group_that_reads_too_fast_waits(tmp_path: Path) -> None:
    async with reached(tmp_path) as broker:
        await broker.topics.create("t", 1)
        await broker.publish(b"a", b"b")
        policy = pb.GroupPolicy(messages_per_second=0.001)
        await broker.stub.AlterGroup(pb.AlterGroupRequest(group="g", policy=policy))
        assert len((await broker.fetch(0, group="g")).bodies) == 2
        assert not (await broker.fetch(0, group="g", wait_ms=50)).bodies
        assert len((await broker.fetch(0)).bodies) == 2  # a look does not count
        assert len((await broker.fetch(0, group="other")).bodies) == 2
