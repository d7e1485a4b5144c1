"""What handlers count, and slots of their own, through a whole admin."""

import pytest

from protos.admin.v1 import run_pb2, run_pb2_grpc
from protos.channel import bearer, dial
from protos.executor.v1 import link_pb2 as pb
from tests.support.admin_harness import JOB, connected, running_admin

pytestmark = pytest.mark.anyio


async def _trigger(client, **job: object) -> str:
    assert (await client.post("/jobs", json={**JOB, **job})).status_code == 201
    answer = await client.post(f"/jobs/{job.get('name', JOB['name'])}/trigger", json={})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def test_counts_go_on_over_attempts_and_are_shown_by_shard_and_summed_over_the_run(tmp_path):
    retry = {"attempts": 2, "initial": "1ms"}
    async with (
        running_admin(tmp_path) as admin,
        admin.client() as client,
        dial(admin.grpc) as channel,
        connected(admin) as executor,
    ):
        run_id = await _trigger(client, retry=retry)
        first, second = await executor.assigned(2)
        assert not first.counts
        told = {"state": pb.OUTCOME_STATE_FAILED, "error_code": "busy", "retryable": True}
        await executor.report(first.attempt, counters=pb.Counters(counts={"sent": 3, "odd": 1}), **told)
        await executor.report(second.attempt, counters=pb.Counters(counts={"sent": 4}))
        again = (await executor.assigned(3))[2]
        assert dict(again.counts) == {"sent": 3, "odd": 1}
        await executor.report(again.attempt, counters=pb.Counters(counts={"sent": 5, "odd": 1}))
        shown = (await client.get(f"/runs/{run_id}/shards")).json()
        assert shown["counters"] == {"odd": 1, "sent": 9}
        assert shown["shards"][second.attempt.shard]["counters"] == {"sent": 4}
        request = run_pb2.RunServiceListShardsRequest(id=run_id)
        listed = await run_pb2_grpc.RunServiceStub(channel).ListShards(request, metadata=bearer(admin.admin_token))
        assert dict(listed.counters) == shown["counters"]
        assert dict(listed.shards[first.attempt.shard].counters) == {"sent": 5, "odd": 1}


async def test_a_handler_with_slots_of_its_own_is_handed_out_so_often_and_holds_up_nobody_else(tmp_path):
    async with (
        running_admin(tmp_path) as admin,
        admin.client() as client,
        connected(admin, handlers=("push", "slow"), slots=4, limits={"slow": 1}) as executor,
    ):
        await _trigger(client, name="slow-job", handler="slow", shards=6)
        (slow,) = await executor.assigned(1)
        await _trigger(client, shards=2)
        assert {each.handler for each in (await executor.assigned(3))[1:]} == {"push"}
        await executor.report(slow.attempt)
        fourth = (await executor.assigned(4))[3]
        assert fourth.handler == "slow"
        await executor.beat(*(each.attempt for each in executor.assignments()))
        assert len(list(executor.assignments())) == 4, "one after the other"
