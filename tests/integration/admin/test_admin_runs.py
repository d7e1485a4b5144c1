"""Jobs, runs and links through a whole admin."""

import asyncio
import itertools

import pytest

from protos.executor.v1 import link_pb2 as pb
from tests.support.admin_harness import JOB, FakeExecutor, connected, running_admin, until

pytestmark = pytest.mark.anyio


async def _state(client, run_id: str) -> str:
    return (await client.get(f"/runs/{run_id}")).json()["state"]


async def _trigger(client, name: str = "promotion-push", **job: object) -> str:
    assert (await client.post("/jobs", json={**JOB, "name": name, **job})).status_code == 201
    answer = await client.post(f"/jobs/{name}/trigger", json={})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def test_a_triggered_job_is_handed_out_by_shard_and_ends_when_all_have_reported(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client, connected(admin) as executor:
        welcome = (await executor.came("welcome")).welcome
        assert (welcome.lease_ms, welcome.beat_period_ms) == (1000, 333)
        run_id = await _trigger(client, params={"promotion_id": 42})
        first, second = await executor.assigned(2)
        assert {first.attempt.shard, second.attempt.shard} == {0, 1}
        assert (first.job, first.handler, first.total, first.attempt_number) == ("promotion-push", "push", 2, 1)
        assert first.params == '{"promotion_id":42}'
        assert (first.cause, first.attempt.term) == ("manual", 1)
        await executor.say(accept=pb.Accept(attempts=[first.attempt, second.attempt]))
        assert await executor.report(first.attempt, result='{"sent": 1}') == pb.VERDICT_ACCEPTED
        assert await _state(client, run_id) == "running"
        counters = pb.Counters(rows=10, published=9, cursor="[7]")
        assert await executor.report(second.attempt, counters=counters) == pb.VERDICT_ACCEPTED
        assert await _state(client, run_id) == "succeeded"
        shards = (await client.get(f"/runs/{run_id}/shards")).json()["shards"]
        assert [shard["state"] for shard in shards] == ["succeeded", "succeeded"]
        by_index = {shard["index"]: shard for shard in shards}
        assert by_index[second.attempt.shard]["published"] == 9
        assert by_index[second.attempt.shard]["cursor"] == [7]
        assert by_index[first.attempt.shard]["result"] == {"sent": 1}


async def test_a_silent_executor_loses_its_shards_to_another_under_a_higher_term(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        async with connected(admin, "one") as first:
            run_id = await _trigger(client, shards=1)
            (old,) = await first.assigned(1)
        async with connected(admin, "two", is_beating=True) as second:
            (new,) = await second.assigned(1)
            assert new.attempt.term > old.attempt.term
            assert new.attempt_number == 1, "a lost holder costs no attempt"
            assert await second.report(old.attempt) == pb.VERDICT_SUPERSEDED
            assert await _state(client, run_id) == "running"
            assert await second.report(new.attempt) == pb.VERDICT_ACCEPTED
            assert await second.report(new.attempt) == pb.VERDICT_ACCEPTED, "said twice"
            assert await _state(client, run_id) == "succeeded"


async def test_a_shard_that_its_holder_let_lapse_does_not_go_back_to_it_because_it_talks(tmp_path):
    """What it says beside its beats may be the last of a process that has stopped since."""
    async with (
        running_admin(tmp_path) as admin,
        admin.client() as client,
        connected(admin, "one") as talking,
        connected(admin, "two", slots=1, is_beating=True) as other,
    ):
        await _trigger(client, shards=2)
        (theirs,), (ours,) = await other.assigned(1), await talking.assigned(1)
        await talking.beat(ours.attempt)
        await other.report(theirs.attempt)

        async def has_gone_on() -> bool:
            counters = pb.AttemptProgress(attempt=ours.attempt, counters=pb.Counters(done=1, total=2))
            await talking.say(progress=pb.Progress(progress=[counters]))
            return len([*talking.assignments(), *other.assignments()]) > 2

        await until(has_gone_on)
        assert [(each.attempt.shard, each.attempt.term) for each in other.assignments()][1:] == [
            (ours.attempt.shard, 2)
        ]


async def test_beats_keep_a_lease_for_longer_than_it_lasts(tmp_path):
    lease_seconds = 0.5
    async with (
        running_admin(tmp_path, lease_seconds=lease_seconds) as admin,
        admin.client() as client,
        connected(admin, "one") as executor,
        connected(admin, "other") as other,
    ):
        run_id = await _trigger(client, shards=1)

        def held() -> list[pb.Assignment]:
            return [*executor.assignments(), *other.assignments()]

        async def is_assigned() -> bool:
            return len(held()) == 1

        await until(is_assigned)
        holder = executor if list(executor.assignments()) else other
        (assignment,) = held()
        clock = asyncio.get_running_loop()
        end = clock.time() + 3 * lease_seconds
        while clock.time() < end:
            assert list((await holder.beat(assignment.attempt)).lost) == []
        assert len(held()) == 1
        assert await holder.report(assignment.attempt) == pb.VERDICT_ACCEPTED
        assert await _state(client, run_id) == "succeeded"


async def test_a_restarted_admin_knows_its_runs_and_leaves_shards_with_who_still_holds_them(tmp_path):
    async with (
        running_admin(tmp_path, lease_seconds=2) as admin,
        admin.client() as client,
        connected(admin) as executor,
    ):
        run_id = await _trigger(client)
        attempts = [assignment.attempt for assignment in await executor.assigned(2)]
    async with (
        running_admin(tmp_path, lease_seconds=2) as admin,
        admin.client() as client,
        connected(admin, held=tuple(attempts)) as executor,
    ):
        assert list((await executor.beat(*attempts)).lost) == []
        for attempt in attempts:
            assert await executor.report(attempt) == pb.VERDICT_ACCEPTED
        assert await _state(client, run_id) == "succeeded"
        assert list(executor.assignments()) == []


async def test_a_failed_shard_is_tried_again_up_to_its_attempts(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client, connected(admin) as executor:
        retry = {"attempts": 2, "backoff": "fixed", "initial": "50ms"}
        run_id = await _trigger(client, shards=1, retry=retry)
        (first,) = await executor.assigned(1)
        failure = {
            "state": pb.OUTCOME_STATE_FAILED,
            "error_code": "ValueError",
            "error_message": "no",
            "retryable": True,
        }
        await executor.report(first.attempt, **failure)
        second = (await executor.assigned(2))[1]
        assert (second.attempt_number, second.max_attempts) == (2, 2)
        await executor.report(second.attempt, **failure)
        run = (await client.get(f"/runs/{run_id}")).json()
        assert (run["state"], run["reason"]) == ("failed", "1 of 1 shards failed")
        assert (await client.get(f"/runs/{run_id}/shards")).json()["shards"][0]["error_code"] == "ValueError"
        assert (await client.post(f"/runs/{run_id}/retry")).json()["state"] == "running"
        third = (await executor.assigned(3))[2]
        assert (third.attempt_number, third.attempt.term) == (1, 3)
        await executor.report(third.attempt)
        assert await _state(client, run_id) == "succeeded"


async def test_a_fenced_holder_gets_a_term_above_the_brokers_and_loses_no_attempt(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client, connected(admin) as executor:
        await _trigger(client, shards=1)
        (first,) = await executor.assigned(1)
        await executor.report(first.attempt, pb.OUTCOME_STATE_FENCED, broker_term=7)
        second = (await executor.assigned(2))[1]
        assert (second.attempt.term, second.attempt_number) == (8, 1)


async def test_cancel_ends_waiting_shards_at_once_and_running_ones_when_they_report(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client, connected(admin, slots=1) as executor:
        run_id = await _trigger(client)
        (held,) = await executor.assigned(1)
        assert (await client.post(f"/runs/{run_id}/cancel")).json()["state"] == "running"
        told = (await executor.came("cancel")).cancel
        assert told.attempt == held.attempt
        await executor.report(held.attempt, pb.OUTCOME_STATE_CANCELLED)
        assert await _state(client, run_id) == "cancelled"
        again = await client.post(f"/runs/{run_id}/cancel")
        assert (again.status_code, again.json()["code"]) == (409, "run_ended")


async def test_the_first_pin_of_a_run_is_kept_and_travels_with_later_assignments(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client, connected(admin) as executor:
        await _trigger(client)
        first, second = await executor.assigned(2)
        await executor.say(pin=pb.Pin(attempt=first.attempt, name="log", value="A"))
        await executor.say(pin=pb.Pin(attempt=second.attempt, name="log", value="B"))
        stale = pb.Attempt(run_id=first.attempt.run_id, shard=0, term=99)
        await executor.say(pin=pb.Pin(attempt=stale, name="log", value="C"))

        def three(came):
            pinned = [response.pinned for response in came if response.WhichOneof("kind") == "pinned"]
            return pinned if len(pinned) == 3 else None

        pinned = await executor.until(three)
        assert [(pin.value, pin.lost) for pin in pinned] == [("A", False), ("A", False), ("", True)]
        await executor.report(first.attempt, pb.OUTCOME_STATE_RELEASED)
        again = (await executor.assigned(3))[2]
        assert dict(again.pins) == {"log": "A"}
        assert again.attempt_number == 1


async def test_a_refused_shard_goes_to_another_executor(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client, connected(admin, "one") as one:
        await _trigger(client, shards=1)
        (assignment,) = await one.assigned(1)
        async with connected(admin, "two", slots=4) as two:
            await one.say(beat=pb.Beat(number=1, draining=True))
            await one.came("beat_accepted")
            await one.say(refuse=pb.Refuse(attempt=assignment.attempt, code="draining"))
            (again,) = await two.assigned(1)
            assert (again.attempt.term, again.attempt_number) == (2, 1)


async def test_a_run_that_nobody_can_take_waits_and_says_why(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        run_id = await _trigger(client)
        run = (await client.get(f"/runs/{run_id}")).json()
        assert run["state"] == "waiting"
        assert run["reason"] == "no executor of the group promotion is alive"


async def test_shards_spread_evenly_over_executors(tmp_path):
    async with (
        running_admin(tmp_path) as admin,
        admin.client() as client,
        connected(admin, "one") as one,
        connected(admin, "two") as two,
    ):
        await one.came("welcome")
        await two.came("welcome")
        await _trigger(client, shards=8)
        assert len(await one.assigned(4)) == 4
        assert len(await two.assigned(4)) == 4


async def test_a_job_that_is_due_every_second_fires_by_itself(tmp_path):
    async with (
        running_admin(tmp_path) as admin,
        admin.client() as client,
        connected(admin, is_beating=True) as executor,
    ):
        job = {**JOB, "shards": "executors", "trigger": {"every": "1s"}, "overlap": "allow"}
        await client.post("/jobs", json=job)
        first, second = (await executor.assigned(2))[:2]
        assert second.fire_at_ms - first.fire_at_ms == 1000
        assert first.total == 1
        runs = (await client.get("/runs", params={"job": "promotion-push"})).json()["runs"]
        assert {run["cause"] for run in runs} == {"fire"}
        paused = (await client.post("/jobs/promotion-push/pause")).json()
        assert (paused["paused"], paused["next_fire_at"]) == (True, None)


async def test_who_refuses_is_not_offered_what_another_one_would_take(tmp_path):
    """Its slots may be taken by handlers that were left behind, of which the admin knows nothing."""
    async with (
        running_admin(tmp_path) as admin,
        admin.client() as client,
        connected(admin, "a", is_beating=True) as full,
        connected(admin, "b", is_beating=True) as free,
        asyncio.TaskGroup() as group,
    ):
        await free.came("welcome")
        refusing = group.create_task(refuse_all(full))
        await client.post("/jobs", json={**JOB, "shards": 1, "overlap": "allow"})
        for count in range(1, 4):
            await client.post("/jobs/promotion-push/trigger")
            await free.assigned(count)
        refusing.cancel()


async def refuse_all(executor: FakeExecutor) -> None:
    for count in itertools.count(1):
        assignment = (await executor.assigned(count))[-1]
        await executor.say(refuse=pb.Refuse(attempt=assignment.attempt, code="no_free_slot"))
