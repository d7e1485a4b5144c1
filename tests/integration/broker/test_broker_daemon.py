"""The broker over real gRPC: publish, fetch, long poll, groups, restart, refusals."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest

from broker import daemon
from broker.daemon import build
from broker.errors import NotOwner, OffsetOutOfRange, StaleTerm, UnknownTopic
from broker.settings import BrokerSettings
from broker.testing import running_broker
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import bearer, dial, renamed
from protos.errors import AddressInUse, DirectoryInUse, DirectoryUnusable, Unauthenticated

pytestmark = pytest.mark.anyio

RUN = "run/r/0"


@asynccontextmanager
async def connected(data: Path, **settings: object) -> AsyncIterator[BrokerServiceStub]:
    async with running_broker(data, **settings) as endpoint, dial(endpoint) as channel:
        with renamed(endpoint):
            yield BrokerServiceStub(channel)


async def opened(stub: BrokerServiceStub, term: int = 1) -> pb.OpenProducerResponse:
    return await stub.OpenProducer(pb.OpenProducerRequest(producer_id=RUN, term=term, holder_id=f"h{term}"))


def request(sequence: int, *bodies: bytes, term: int = 1, **columns: Iterable[str]) -> pb.PublishRequest:
    batches = [pb.TopicBatch(topic="orders", bodies=bodies, **columns)] if bodies else []
    return pb.PublishRequest(
        producer_id=RUN, term=term, holder_id=f"h{term}", sequence=sequence, cursor=b"%d" % sequence, batches=batches
    )


async def publish(stub: BrokerServiceStub, *requests: pb.PublishRequest) -> list[pb.PublishResponse]:
    return [response async for response in stub.Publish(iter(requests))]


async def fetch(stub: BrokerServiceStub, queue: int, offset: int = 0, wait_ms: int = 0) -> pb.FetchResponse:
    return await stub.Fetch(pb.FetchRequest(topic="orders", queue=queue, offset=offset, wait_ms=wait_ms), timeout=20)


async def fetch_all(stub: BrokerServiceStub) -> list[bytes]:
    return [body for queue in range(4) for body in (await fetch(stub, queue)).bodies]


async def beat(stub: BrokerServiceStub, member: str) -> pb.BeatGroupResponse:
    return await stub.BeatGroup(
        pb.BeatGroupRequest(group="g", member_id=member, topics=["orders"], session_timeout_ms=60_000)
    )


async def test_what_is_published_is_fetched_with_all_its_columns(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        await opened(stub)
        given = request(1, b"a", b"b", keys=["k", "k"], tags=["push"])
        given.batches[0].attributes.add(index=1, properties={"colour": "red"}, ordered=True)
        (response,) = await publish(stub, given)
        (stored,) = response.published.ranges
        found = await fetch(stub, stored.queue, stored.first_offset)
        assert [*found.bodies] == [b"a", b"b"]
        assert ([*found.keys], [*found.tags]) == (["k", "k"], ["push"])
        assert [(a.index, dict(a.properties), a.ordered) for a in found.attributes] == [(1, {"colour": "red"}, True)]
        assert [*found.published_at_ms] == [response.published.stored_at_ms] * 2


async def test_messages_without_keys_are_spread_over_all_queues(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        await opened(stub)
        bodies = [b"%d" % number for number in range(10)]
        (response,) = await publish(stub, request(1, *bodies))
        assert sorted(stored.count for stored in response.published.ranges) == [2, 2, 3, 3]
        assert sorted(await fetch_all(stub)) == sorted(bodies)


async def test_a_stream_goes_on_behind_a_refused_request(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        await opened(stub)
        answers = await publish(stub, request(1, b"a"), request(5, b"x"), request(2, b"b"))
        assert [answer.WhichOneof("result") for answer in answers] == ["published", "refusal", "published"]
        assert (answers[1].refusal.code, answers[1].refusal.fields["expected"]) == ("sequence_gap", "2")


async def test_a_duplicate_gets_the_ranges_of_the_first_copy(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        await opened(stub)
        given = request(1, *(b"%d" % n for n in range(20)), keys=[str(n) for n in range(20)])
        (first,) = await publish(stub, given)
    async with connected(tmp_path) as stub:
        (second,) = await publish(stub, given)
        assert second.published.duplicate
        assert [*second.published.ranges] == [*first.published.ranges]
        assert second.published.stored_at_ms == first.published.stored_at_ms
        assert len(await fetch_all(stub)) == 20


async def test_a_takeover_goes_on_behind_the_cursor_and_fences_the_late_holder(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        await opened(stub)
        await publish(stub, request(1, b"a"), request(2))
    async with connected(tmp_path) as stub:
        taken = await opened(stub, term=2)
        assert (taken.last_sequence, taken.cursor) == (2, b"2")
        (late,) = await publish(stub, request(3, b"late"))
        assert (late.refusal.code, late.refusal.fields["current"]) == ("stale_term", "2")
        with pytest.raises(StaleTerm):
            await asyncio.create_task(renamed_open(stub, 1))


async def renamed_open(stub: BrokerServiceStub, term: int) -> None:
    with renamed("broker"):
        await opened(stub, term)


async def test_a_forgotten_run_stays_refused_after_a_restart(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        await opened(stub)
        forgotten = await stub.ForgetProducer(pb.ForgetProducerRequest(producer_id="run/r/"))
        assert forgotten.forgotten == 1
    async with connected(tmp_path) as stub:
        (answer,) = await publish(stub, request(1, b"a"))
        assert answer.refusal.code == "producer_unknown"
        with pytest.raises(grpc.aio.AioRpcError, match="forgotten"):
            await opened(stub, term=9)


async def test_a_long_poll_ends_with_the_first_message(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        await opened(stub)
        await publish(stub, request(1, b"a", keys=["k"]))
        (queue,) = [queue for queue in range(4) if (await fetch(stub, queue)).bodies]
        waiting = asyncio.create_task(fetch(stub, queue, offset=1, wait_ms=15_000))
        await asyncio.wait((waiting,), timeout=0.1)
        assert not waiting.done()
        await publish(stub, request(2, b"b", keys=["k"]))
        assert [*(await waiting).bodies] == [b"b"]


async def test_a_long_poll_answers_before_its_callers_deadline(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        empty = await stub.Fetch(pb.FetchRequest(topic="orders", wait_ms=30_000), timeout=1)
        assert (empty.end_offset, [*empty.bodies]) == (0, [])


async def test_an_offset_beyond_the_end_is_refused_with_the_valid_range(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, dial(endpoint) as channel:
        with pytest.raises(OffsetOutOfRange) as refused, renamed(endpoint):
            await fetch(BrokerServiceStub(channel), 0, offset=7)
        assert (refused.value.fields["lowest"], refused.value.fields["end"]) == (0, 0)


async def test_a_queue_moves_only_after_its_owner_released_it(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        assert len((await beat(stub, "a")).owned) == 4
        assert not (await beat(stub, "b")).owned
        release = (await beat(stub, "a")).release
        assert len(release) == 2
        commits = [pb.OffsetCommit(claim=claim, offset=0) for claim in release]
        await stub.Commit(pb.CommitRequest(group="g", member_id="a", commits=commits))
        await stub.ReleaseQueues(pb.ReleaseQueuesRequest(group="g", member_id="a", claims=release))
        taken = [owned.claim for owned in (await beat(stub, "b")).owned]
        assert [claim.queue for claim in taken] == [claim.queue for claim in release]
        assert all(claim.generation == 2 for claim in taken)


async def test_owners_and_offsets_survive_a_restart(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        await opened(stub)
        await publish(stub, request(1, *(b"%d" % n for n in range(8))))
        owned = (await beat(stub, "a")).owned
        commits = [pb.OffsetCommit(claim=owned[0].claim, offset=2)]
        await stub.Commit(pb.CommitRequest(group="g", member_id="a", commits=commits))
    async with connected(tmp_path) as stub:
        assert not (await beat(stub, "b")).owned
        commits[0].offset = 1  # behind what is committed: changes nothing
        answer = await stub.Commit(pb.CommitRequest(group="g", member_id="a", commits=commits))
        assert answer.committed[0].offset == 2
        assert [assignment.claim for assignment in (await beat(stub, "a")).owned] == [item.claim for item in owned]


async def test_a_commit_by_somebody_else_is_refused_whole(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, dial(endpoint) as channel:
        stub = BrokerServiceStub(channel)
        owned = (await beat(stub, "a")).owned
        commits = [pb.OffsetCommit(claim=item.claim, offset=0) for item in owned]
        with pytest.raises(NotOwner), renamed(endpoint):
            await stub.Commit(pb.CommitRequest(group="g", member_id="b", commits=commits))
        commits[0].offset = 9
        with pytest.raises(OffsetOutOfRange), renamed(endpoint):
            await stub.Commit(pb.CommitRequest(group="g", member_id="a", commits=commits))


async def test_topics_are_not_made_on_first_use_when_that_is_off(tmp_path: Path) -> None:
    async with running_broker(tmp_path, create_topics=False) as endpoint, dial(endpoint) as channel:
        stub = BrokerServiceStub(channel)
        with pytest.raises(UnknownTopic), renamed(endpoint):
            await beat(stub, "a")
        created = await stub.CreateTopic(pb.CreateTopicRequest(name="orders", queues=2))
        assert len(created.topic.queues) == 2
        assert len((await beat(stub, "a")).owned) == 2


async def test_access_keys_are_asked_for(tmp_path: Path) -> None:
    async with running_broker(tmp_path, access_keys=("one", "two")) as endpoint, dial(endpoint) as channel:
        stub = BrokerServiceStub(channel)
        with pytest.raises(Unauthenticated), renamed(endpoint):
            await stub.ListTopics(pb.ListTopicsRequest(), metadata=bearer("three"))
        await stub.ListTopics(pb.ListTopicsRequest(), metadata=bearer("two"))


async def test_a_directory_and_a_port_have_one_broker(tmp_path: Path) -> None:
    async with running_broker(tmp_path / "one") as endpoint:
        with pytest.raises(DirectoryInUse):
            async with running_broker(tmp_path / "one"):
                pytest.fail("it must not start")
        with pytest.raises(AddressInUse):
            async with running_broker(tmp_path / "two", port=int(endpoint.split(":")[1])):
                pytest.fail("it must not start")


async def test_a_stop_ends_streams_and_long_polls_without_waiting(tmp_path: Path) -> None:
    stopped = asyncio.Event()

    async def requests() -> AsyncIterator[pb.PublishRequest]:
        yield request(1, b"a")
        await stopped.wait()

    async with running_broker(tmp_path) as endpoint:
        channel = dial(endpoint)
        stub = BrokerServiceStub(channel)
        await opened(stub)
        stream = stub.Publish(requests())
        assert (await stream.read()).published.ranges
        poll = asyncio.create_task(fetch(stub, 0, offset=1, wait_ms=15_000))
    with pytest.raises(grpc.aio.AioRpcError, match="stopping"):
        await stream.read()
    await asyncio.gather(poll, return_exceptions=True)
    stopped.set()
    await channel.close()


async def test_a_stop_while_the_silent_are_forgotten_is_none_but_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "_FORGET_EVERY", timedelta(0))
    async with asyncio.timeout(30), build(BrokerSettings.from_env(data=tmp_path, port=0)) as house:

        async def forget_silent() -> int:
            house.stop()
            return 0

        monkeypatch.setattr(house.broker.publishing, "forget_silent", forget_silent)
        await house.run()


async def test_a_publish_of_too_many_batches_is_refused_and_the_stream_goes_on(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        await opened(stub)
        many = pb.PublishRequest(producer_id=RUN, term=1, holder_id="h1", sequence=1)
        many.batches.extend([pb.TopicBatch(topic="orders")] * 1_025)
        refused, stored = await publish(stub, many, request(1, b"a"))
        assert refused.refusal.code == "bad_request"
        assert stored.published.ranges


async def test_a_producer_and_a_group_are_shown(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        await opened(stub)
        await publish(stub, request(1, b"a"))
        shown = (await stub.GetProducer(pb.GetProducerRequest(producer_id=RUN))).producer
        assert (shown.term, shown.holder_id, shown.last_sequence, shown.cursor) == (1, "h1", 1, b"1")
        await beat(stub, "a")
        group = (await stub.GetGroup(pb.GetGroupRequest(group="g"))).group
        assert [member.member_id for member in group.members] == ["a"]
        assert {(queue.owner, queue.committed_offset) for queue in group.queues} == {("a", 0)}
        assert sum(queue.end_offset for queue in group.queues) == 1


async def test_a_plain_producer_finds_its_place_again_however_long_the_broker_was_down(tmp_path: Path) -> None:
    given = request(1, b"a")
    given.producer_id = "producer/x"
    for now_ms, is_duplicate in ((0, False), (100 * 3_600 * 1_000, True)):
        settings = BrokerSettings.from_env(data=tmp_path, port=0)
        async with build(settings, clock=lambda now_ms=now_ms: now_ms) as house, asyncio.TaskGroup() as group:
            group.create_task(house.run())
            async with dial(house.endpoints["grpc"]) as channel:
                stub = BrokerServiceStub(channel)
                if not is_duplicate:
                    await stub.OpenProducer(
                        pb.OpenProducerRequest(producer_id="producer/x", term=1, holder_id="h1"), timeout=10
                    )
                (answer,) = await publish(stub, given)
                assert answer.published.duplicate == is_duplicate
                assert answer.published.ranges
            house.stop()


@pytest.mark.parametrize("name", ["meta.json", "topics.json", "checkpoint.json"])
async def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    async with connected(tmp_path) as stub:
        await beat(stub, "a")
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(b"\x00")
    with pytest.raises(DirectoryUnusable, match=name):
        async with running_broker(tmp_path):
            pytest.fail("it must not start")
    (tmp_path / name).write_bytes(whole)  # and the directory was left for others to open
    async with running_broker(tmp_path):
        pass
