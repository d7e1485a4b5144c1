"""What an executor may not do, what a caller may not send, and whom the dispatcher does not believe alive."""

import json
from contextlib import asynccontextmanager

import pytest

from admin.dispatch.convert import MAX_NUMBER
from admin.dispatch.link import MAX_HANDLERS
from admin.domain.errors import InvalidJob, UnknownJob, Unstorable
from admin.domain.shard import MOST_OF_A_RUN
from admin.store.runs.runs import SqlRuns
from protos.admin.v1 import job_pb2, job_pb2_grpc, run_pb2, run_pb2_grpc
from protos.channel import bearer, dial, renamed
from protos.executor.v1 import link_pb2 as pb
from tests.support.admin_harness import JOB, connected, running_admin, until

pytestmark = pytest.mark.anyio

TRIGGER = "/jobs/promotion-push/trigger"


@pytest.fixture(scope="module")
async def admin_of_all(tmp_path_factory):
    async with running_admin(tmp_path_factory.mktemp("admin")) as admin:
        yield admin


async def test_nobody_speaks_for_the_runs_of_another_group(tmp_path):
    async with (
        running_admin(tmp_path) as admin,
        admin.client() as client,
        connected(admin, "one") as holder,
        connected(admin, "two", group="other") as stranger,
    ):
        await client.post("/jobs", json={**JOB, "shards": 1})
        run_id = (await client.post(TRIGGER)).json()["id"]
        (assignment,) = await holder.assigned(1)
        attempt = assignment.attempt
        assert list((await stranger.beat(attempt)).lost) == [attempt]
        progress = pb.AttemptProgress(attempt=attempt, counters=pb.Counters(rows=99))
        await stranger.say(progress=pb.Progress(progress=[progress]))
        assert await stranger.report(attempt) == pb.VERDICT_SUPERSEDED
        (shard,) = (await client.get(f"/runs/{run_id}/shards")).json()["shards"]
        assert (shard["state"], shard["rows"]) == ("assigned", 0)
        assert await holder.report(attempt) == pb.VERDICT_ACCEPTED


async def test_an_executor_id_of_another_group_is_not_taken_over(tmp_path):
    async with running_admin(tmp_path) as admin, connected(admin, "one") as first:
        await first.came("welcome")
        async with connected(admin, "one", group="other") as stranger:
            await stranger.until_over()
            assert stranger.refusal() == "permission_denied"
        assert (await first.beat()).number == 1


async def test_log_lines_of_a_level_of_ones_own_do_not_end_the_link(tmp_path):
    async with running_admin(tmp_path) as admin, connected(admin) as executor:
        for level in (0, 5, 25, 99):
            await executor.say(log_lines=pb.LogLines(lines=[pb.LogLine(level=level, text="x")]))
        assert (await executor.beat()).number == 1


async def test_a_silent_executor_gets_nothing_although_its_link_stands(tmp_path):
    async with (
        running_admin(tmp_path, lease_seconds=0.5) as admin,
        admin.client() as client,
        connected(admin, "silent") as silent,
    ):
        await client.post("/jobs", json={**JOB, "shards": 1})
        run_id = (await client.post(TRIGGER)).json()["id"]
        await silent.assigned(1)
        await silent.came("lease_lost")
        async with connected(admin, "living", slots=1, is_beating=True) as living:
            (again,) = await living.assigned(1)
            assert again.attempt.run_id == run_id
        assert len(list(silent.assignments())) == 1


async def test_a_trigger_whose_handler_nobody_registered_is_refused_unless_nobody_is_there(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        await client.post("/jobs", json={**JOB, "handler": "stray"})
        key = {"Idempotency-Key": "k"}
        waiting = (await client.post(TRIGGER, headers=key)).json()
        assert (waiting["state"], waiting["reason"]) == ("waiting", "no executor of the group promotion is alive")
        async with connected(admin, handlers=("push", "pull"), is_beating=True) as executor:
            await executor.came("welcome")
            refused = await client.post(TRIGGER)
            assert (refused.status_code, refused.json()["code"]) == (409, "unknown_handler")
            assert refused.json()["detail"] == "The handler stray is not registered; registered are: pull, push."
            assert (await client.post(TRIGGER, headers=key)).json()["id"] == waiting["id"]
            reason = (await client.get(f"/runs/{waiting['id']}")).json()["reason"]
            assert reason == "no executor of the group promotion offers the handler stray"
            assert len((await client.get("/runs")).json()["runs"]) == 1


async def test_fires_are_written_although_nobody_registered_the_handler(tmp_path):
    async with (
        running_admin(tmp_path) as admin,
        admin.client() as client,
        connected(admin, is_beating=True) as executor,
    ):
        await executor.came("welcome")
        await client.post("/jobs", json={**JOB, "handler": "stray", "trigger": {"every": "1s"}})

        async def is_written() -> bool:
            return bool((await client.get("/runs")).json()["runs"])

        await until(is_written)
        assert {run["cause"] for run in (await client.get("/runs")).json()["runs"]} == {"fire"}


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"params":{"a":NaN}}', "application/json", 400),
        (b'{"params":{"a":' + b"[" * 200 + b"]" * 200 + b"}}", "application/json", 400),
        (b'{"params":{"a":"\\ud800"}}', "application/json", 400),
        (b'{"params":{"a":"\xff"}}', "application/json", 400),
        (json.dumps({"params": {"a": "x" * 70_000}}).encode(), "application/json", 400),
        (b'{"params":{"a":"' + b"x" * (2 << 20) + b'"}}', "application/json", 413),
        (b"params=1", "application/x-www-form-urlencoded", 415),
        (b'{"parms":{}}', "application/json", 400),
    ],
    ids=["nan", "deep", "surrogate", "bad utf-8", "large params", "large body", "form", "unknown field"],
)
async def test_a_body_that_cannot_be_kept_is_refused_and_changes_nothing(tmp_path, body, kind, status):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        await client.post("/jobs", json=JOB)
        answer = await client.post(TRIGGER, content=body, headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["code"]) == (status, "invalid_argument")
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await client.get("/runs")).json()["runs"] == []


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/triggers/preview", {"trigger": {"every": "1s"}, "after": "9999-12-31T23:59:59Z"}, "invalid_argument"),
        (
            "/triggers/preview",
            {"trigger": {"cron": "0 0 9 * * ?"}, "after": "0001-01-01T00:00:00Z"},
            "invalid_argument",
        ),
        ("/jobs", {**JOB, "trigger": {"at": "0001-01-01T00:00:00+10:00"}}, "invalid_job"),
        ("/jobs", {**JOB, "trigger": {"cron": "\ud800"}}, "invalid_trigger"),
        ("/jobs", {**JOB, "trigger": {"every": "1m", "jitter": "2m"}}, "invalid_job"),
        ("/jobs", {**JOB, "retry": {"\ud800": 1}}, "invalid_job"),
        ("/tokens", {"name": ""}, "invalid_argument"),
    ],
)
async def test_odd_values_are_told_and_never_a_fault_of_the_admin(tmp_path, path, body, code):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        answer = await client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_a_key_stands_for_one_request_and_outlives_edits_of_the_job(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        key = {"Idempotency-Key": "k"}
        await client.post("/jobs", json={**JOB, "overlap": "allow"})
        first = (await client.post(TRIGGER, headers=key)).json()
        second = (await client.post(TRIGGER)).json()
        await client.put("/jobs/promotion-push", json={**JOB, "overlap": "allow", "params": {"new": 1}})
        assert (await client.post(TRIGGER, headers=key)).json()["id"] == first["id"]
        reruns = [(await client.post(f"/runs/{run['id']}/rerun", headers=key)).json()["id"] for run in (first, second)]
        assert len(set(reruns)) == 2
        assert (await client.post(f"/runs/{first['id']}/rerun", headers=key)).json()["id"] == reruns[0]
        too_long = await client.post(f"/runs/{first['id']}/rerun", headers={"Idempotency-Key": "k" * 151})
        assert too_long.json()["code"] == "invalid_argument"


@pytest.mark.parametrize(
    "odd",
    [
        {"executor_id": "one\x00"},
        {"executor_id": ""},
        {"executor_id": "x" * 65},
        {"group": "promotion\x00"},
        {"group": "g" * 101},
        {"group": "promo\u200btion"},
        {"handlers": ("push\x00",)},
        {"handlers": ("h" * 101,)},
        {"handlers": ("",)},
        {"handlers": tuple(map(str, range(MAX_HANDLERS + 1)))},
    ],
    ids=str,
)
async def test_an_executor_whose_names_nobody_could_keep_is_refused(admin_of_all, odd):
    async with connected(admin_of_all, **odd) as executor:
        await executor.until_over()
        assert executor.refusal() == "invalid_argument"


async def test_an_executor_with_as_much_as_is_allowed_is_let_in(admin_of_all):
    handlers = tuple(f"{number:0100}" for number in range(MAX_HANDLERS))
    async with connected(admin_of_all, "x" * 64, group="g" * 100, handlers=handlers) as executor:
        await executor.came("welcome")
        async with admin_of_all.client() as client:
            (listed,) = (await client.get("/fleet")).json()["executors"]
        assert (listed["group"], len(listed["handlers"])) == ("g" * 100, MAX_HANDLERS)


async def test_names_that_nothing_can_have_are_unknown(admin_of_all):
    async with admin_of_all.client() as client:
        await client.post("/jobs", json=JOB)
        for call in (client.get, client.delete):
            answer = await call("/jobs/%00")
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_job")
        for action in ("trigger", "pause", "resume"):
            assert (await client.post(f"/jobs/a%00b/{action}")).json()["code"] == "unknown_job"
        assert (await client.get("/runs/%00")).json()["code"] == "unknown_run"
        for path in ("/runs?job=%00", "/runs?page_token=%00", "/jobs?group=%00", "/jobs?page_token=zzz%00"):
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert [] in answer.json().values(), path
        for key in (b"k\xa0k", b"k\tk"):
            answer = await client.post(TRIGGER, headers={"Idempotency-Key": key})
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_argument")


@asynccontextmanager
async def assigned_one(tmp_path):
    """A client, an executor, and the run's id and assignment that it has got."""
    async with (
        running_admin(tmp_path) as admin,
        admin.client() as client,
        connected(admin, is_beating=True) as executor,
    ):
        await client.post("/jobs", json={**JOB, "shards": 1})
        run_id = (await client.post(TRIGGER)).json()["id"]
        (assignment,) = await executor.assigned(1)
        yield client, executor, run_id, assignment


async def test_an_outcome_with_numbers_and_texts_beyond_all_bounds_is_kept_and_work_goes_on(tmp_path):
    async with assigned_one(tmp_path) as (client, executor, run_id, assignment):
        fenced = {"state": pb.OUTCOME_STATE_FENCED, "broker_term": 2**64 - 1}
        assert await executor.report(assignment.attempt, **fenced) == pb.VERDICT_ACCEPTED
        (_, again) = await executor.assigned(2)
        texts = dict.fromkeys(("error_code", "error_message", "traceback", "result"), "a\x00b")
        failed = {"state": pb.OUTCOME_STATE_FAILED, "counters": pb.Counters(rows=2**64 - 1, cursor="\x00"), **texts}
        assert await executor.report(again.attempt, **failed) == pb.VERDICT_ACCEPTED
        (shard,) = (await client.get(f"/runs/{run_id}/shards")).json()["shards"]
        assert (shard["state"], shard["rows"]) == ("failed", MAX_NUMBER)
        await client.post(TRIGGER)
        await executor.assigned(3)


@pytest.mark.parametrize("result", ['"\\ud800"', '{"\\udfff": 1}', "1e400", "[NaN]", "9" * 5_000], ids=str.encode)
async def test_a_result_that_nobody_could_be_shown_hides_no_shard(tmp_path, result):
    async with assigned_one(tmp_path) as (client, executor, run_id, assignment):
        kept = {"result": result, "counters": pb.Counters(cursor=result)}
        assert await executor.report(assignment.attempt, **kept) == pb.VERDICT_ACCEPTED
        answer = await client.get(f"/runs/{run_id}/shards")
        (shard,) = answer.json()["shards"]
        assert (shard["state"], shard["result"], shard["cursor"]) == ("succeeded", result, result)


async def test_counts_beyond_all_bounds_can_be_summed_up(tmp_path):
    async with (
        running_admin(tmp_path) as admin,
        admin.client() as client,
        connected(admin, is_beating=True) as executor,
        dial(admin.grpc) as channel,
    ):
        await client.post("/jobs", json={**JOB, "shards": 5})
        run_id = (await client.post(TRIGGER)).json()["id"]
        for assignment in await executor.assigned(5):
            await executor.report(assignment.attempt, counters=pb.Counters(counts={"seen": 2**63 - 1}))
        request = run_pb2.RunServiceListShardsRequest(id=run_id)
        with renamed("the admin"):
            found = await run_pb2_grpc.RunServiceStub(channel).ListShards(request, metadata=bearer(admin.admin_token))
        assert found.counters["seen"] == MOST_OF_A_RUN
        assert (await client.get(f"/runs/{run_id}/shards")).json()["counters"] == {"seen": MOST_OF_A_RUN}


@pytest.mark.parametrize("name", ["x" * 20_000, "\n" * 2_000, "é" * 1_000, "x" * 300_000])
async def test_a_refusal_has_its_code_however_much_it_is_about(admin_of_all, name):
    async with dial(admin_of_all.grpc) as channel:
        stub = job_pb2_grpc.JobServiceStub(channel)
        with pytest.raises(UnknownJob) as refused, renamed("the admin"):
            await stub.Get(job_pb2.JobServiceGetRequest(name=name), metadata=bearer(admin_of_all.admin_token))
        assert str(refused.value).startswith(f"There is no job {name[:100]}")
        form = job_pb2.JobServiceCreateRequest(job=job_pb2.Job(name=name, handler=name, group=name))
        with pytest.raises(InvalidJob), renamed("the admin"):
            await stub.Create(form, metadata=bearer(admin_of_all.admin_token))


async def test_a_pin_that_the_database_cannot_keep_costs_its_attempt_and_no_other(tmp_path, monkeypatch):
    """As MariaDB does for a name that differs from another one by a space at its end."""
    kept = SqlRuns.add_pin

    async def keep(runs, attempt, holder, name, value):
        if name.endswith(" "):
            raise Unstorable(reason="it is there already")
        return await kept(runs, attempt, holder, name, value)

    monkeypatch.setattr(SqlRuns, "add_pin", keep)
    async with running_admin(tmp_path) as admin, admin.client() as client, connected(admin) as executor:
        await client.post("/jobs", json={**JOB, "shards": 1})
        await client.post(TRIGGER)
        (assignment,) = await executor.assigned(1)
        for name in ("scan/a ", "scan/a"):
            await executor.say(pin=pb.Pin(attempt=assignment.attempt, name=name, value="x"))
        await executor.until(lambda came: next((r for r in came if r.pinned.name == "scan/a"), None))
        assert (await executor.came("pinned")).pinned.lost
