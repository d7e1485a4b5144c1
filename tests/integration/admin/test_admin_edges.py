"""REST and gRPC from outside: tokens, errors, paging, edits, idempotency, watching."""

import asyncio

import grpc.aio
import httpx
import pytest

from admin.app import build
from admin.settings import AdminSettings, DatabaseSettings
from protos.admin.v1 import job_pb2, job_pb2_grpc, run_pb2, run_pb2_grpc
from protos.channel import bearer, dial, renamed
from protos.errors import (
    AddressInUse,
    BadConfiguration,
    DirectoryInUse,
    DirectoryUnusable,
    PermissionDenied,
    ShardcastError,
    Unauthenticated,
)
from protos.executor.v1 import link_pb2 as link
from protos.executor.v1.link_pb2_grpc import LinkServiceStub
from tests.support.admin_harness import JOB, PATIENCE, connected, running_admin, until

pytestmark = pytest.mark.anyio


async def test_no_call_under_api_is_answered_without_an_administrators_token(tmp_path):
    async with running_admin(tmp_path) as admin:
        for token, status, code in [
            ("", 401, "unauthenticated"),
            ("wrong", 401, "unauthenticated"),
            (admin.executor_token, 403, "permission_denied"),
        ]:
            async with admin.client(token) as client:
                for path in ("/jobs", "/openapi.json", "/nothing/here"):
                    answer = await client.get(path)
                    assert (answer.status_code, answer.json()["code"]) == (status, code)
                    assert answer.headers["content-type"] == "application/problem+json"
        async with httpx.AsyncClient(base_url=admin.http, trust_env=False) as client:
            assert (await client.get("/livez")).status_code == 200
            assert (await client.get("/readyz")).status_code == 200
            assert "shardcast_executors 0" in (await client.get("/metrics")).text


async def test_token_files_are_for_their_owner_alone_and_survive_a_restart(tmp_path):
    async with running_admin(tmp_path) as admin:
        first = admin.admin_token
        assert {(tmp_path / f"{name}.token").stat().st_mode & 0o777 for name in ("admin", "executor")} == {0o600}
    async with running_admin(tmp_path) as admin, admin.client(first) as client:
        assert (await client.get("/jobs")).status_code == 200


async def test_a_group_token_lets_in_its_group_until_it_is_revoked(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        made = (await client.post("/tokens", json={"name": "ci", "group": "promotion"})).json()
        assert (made["role"], made["group"]) == ("group", "promotion")
        async with connected(admin, token=made["token"]) as executor:
            await executor.came("welcome")
        async with connected(admin, token=made["token"], group="other") as executor:
            await executor.until_over()
            assert executor.refusal() == PermissionDenied.code
        listed = (await client.get("/tokens")).json()["tokens"]
        assert {token["name"] for token in listed} == {"admin", "executor", "ci"}
        assert all("token" not in token for token in listed)
        assert (await client.delete(f"/tokens/{made['id']}")).status_code == 204
        assert (await client.delete(f"/tokens/{made['id']}")).json()["code"] == "unknown_token"
        async with connected(admin, token=made["token"]) as executor:
            await executor.until_over()
            assert executor.refusal() == Unauthenticated.code


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/jobs/none", None, (404, "unknown_job")),
        ("GET", "/runs/none", None, (404, "unknown_run")),
        ("GET", "/runs/none/shards", None, (404, "unknown_run")),
        ("POST", "/runs/none/cancel", None, (404, "unknown_run")),
        ("POST", "/jobs/none/trigger", {}, (404, "unknown_job")),
        ("DELETE", "/runs", None, (405, "method_not_allowed")),
        ("GET", "/nothing", None, (404, "unknown_address")),
        ("POST", "/jobs", {"name": "x"}, (400, "invalid_job")),
        ("POST", "/jobs", [1], (400, "invalid_argument")),
        ("POST", "/jobs", {**JOB, "trigger": {"cron": "0 0 9 L/2 * ?"}}, (400, "invalid_trigger")),
        ("POST", "/jobs", {**JOB, "trigger": {"cron": "0 0 9 30 2 ?"}}, (400, "never_fires")),
        ("POST", "/jobs", {**JOB, "overlap": "sometimes"}, (400, "invalid_job")),
        ("POST", "/jobs", {**JOB, "overlap": "skip", "overlap_limit": 2}, (400, "invalid_job")),
        ("GET", "/runs?state=odd", None, (400, "invalid_argument")),
        ("GET", "/jobs?page_size=5000", None, (400, "invalid_argument")),
        ("POST", "/triggers/preview", {"trigger": {}}, (400, "invalid_argument")),
        ("POST", "/triggers/preview", {"trigger": {"every": "1s"}, "count": 0}, (400, "invalid_argument")),
    ],
)
async def test_every_error_is_a_problem_with_its_code(tmp_path, method, path, body, expected):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        answer = await client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == expected
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert answer.json()["detail"]


async def test_edits_need_the_version_they_started_from(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        created = await client.post("/jobs", json=JOB)
        assert (created.status_code, created.headers["etag"]) == (201, '"1"')
        edit = {**JOB, "shards": 4}
        edited = await client.put("/jobs/promotion-push", json=edit, headers={"If-Match": '"1"'})
        assert (edited.headers["etag"], edited.json()["shards"]) == ('"2"', 4)
        stale = await client.put("/jobs/promotion-push", json=edit, headers={"If-Match": '"1"'})
        assert (stale.status_code, stale.json()["code"]) == (412, "version_conflict")
        renamed_job = await client.put("/jobs/promotion-push", json={**JOB, "name": "other"})
        assert renamed_job.json()["code"] == "invalid_job"
        assert (await client.get("/jobs/promotion-push")).json() == edited.json()
        assert (await client.delete("/jobs/promotion-push", headers={"If-Match": '"2"'})).status_code == 204


async def test_an_idempotency_key_gives_the_same_answer_again(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        key = {"Idempotency-Key": "once"}
        first = await client.post("/jobs", json=JOB, headers=key)
        assert (await client.post("/jobs", json=JOB, headers=key)).json() == first.json()
        assert (await client.post("/jobs", json=JOB)).json()["code"] == "job_exists"
        answers = await asyncio.gather(
            *(client.post("/jobs/promotion-push/trigger", json={"params": {"a": 1}}, headers=key) for _ in range(5))
        )
        assert len({answer.json()["id"] for answer in answers}) == 1
        other = await client.post("/jobs/promotion-push/trigger", json={"params": {"a": 2}}, headers=key)
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
        assert len((await client.get("/runs")).json()["runs"]) == 1


async def test_pages_lead_on_to_the_last(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        for number in range(5):
            await client.post("/jobs", json={**JOB, "name": f"job-{number}"})
        names, token = [], ""
        for _ in range(3):
            page = (await client.get("/jobs", params={"page_size": 2, "page_token": token})).json()
            names += [job["name"] for job in page["jobs"]]
            token = page["next_page_token"]
        assert (names, token) == ([f"job-{number}" for number in range(5)], "")


async def test_a_rerun_is_a_new_run_with_the_same_parameters(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        await client.post("/jobs", json=JOB)
        old = (await client.post("/jobs/promotion-push/trigger", json={"params": {"a": 1}})).json()
        await client.post(f"/runs/{old['id']}/cancel")
        assert (await client.post(f"/runs/{old['id']}/retry")).json()["code"] == "nothing_to_retry"
        new = (await client.post(f"/runs/{old['id']}/rerun")).json()
        assert (new["cause"], new["params"], new["shards"]) == ("rerun", {"a": 1}, 2)
        assert new["id"] != old["id"]


async def test_a_paused_job_starts_for_nobody_until_it_is_resumed(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client, dial(admin.grpc) as channel:
        await client.post("/jobs", json=JOB)
        key = {"Idempotency-Key": "once"}
        first = (await client.post("/jobs/promotion-push/trigger", headers=key)).json()
        again = (await client.post(f"/runs/{first['id']}/rerun", headers=key)).json()
        await client.post("/jobs/promotion-push/pause")
        for path in ("/jobs/promotion-push/trigger", f"/runs/{first['id']}/rerun"):
            refused = await client.post(path)
            assert (refused.status_code, refused.json()["code"]) == (409, "job_paused")
            assert "resume it first" in refused.json()["detail"]
        assert (await client.post("/jobs/promotion-push/trigger", headers=key)).json()["id"] == first["id"]
        assert (await client.post(f"/runs/{first['id']}/rerun", headers=key)).json()["id"] == again["id"]
        request = job_pb2.JobServiceTriggerRequest(name="promotion-push")
        with pytest.raises(ShardcastError) as caught, renamed(admin.grpc):
            await job_pb2_grpc.JobServiceStub(channel).Trigger(request, metadata=bearer(admin.admin_token))
        assert caught.value.code == "job_paused"
        await client.post("/jobs/promotion-push/resume")
        assert (await client.post("/jobs/promotion-push/trigger")).status_code == 201


SCHEMA = '{"type": "object", "properties": {"promotion_id": {"type": "integer"}}, "required": ["promotion_id"]}'


async def test_params_that_the_handlers_schema_refuses_are_neither_saved_nor_run(tmp_path):
    wrong, right = {"promotion_id": "x"}, {"promotion_id": 7}
    daily = {**JOB, "name": "daily", "trigger": {"cron": "0 0 9 * * ?"}}
    async with running_admin(tmp_path) as admin, admin.client() as client:
        nobody_knows = await client.post("/jobs", json={**JOB, "name": "early", "params": wrong})
        assert nobody_knows.status_code == 201
        async with connected(admin, schema=SCHEMA, is_beating=True) as executor:
            await executor.came("welcome")
            key = {"Idempotency-Key": "once"}
            for job, path in [({**JOB, "params": wrong}, "params.promotion_id"), (daily, "params")]:
                refused = await client.post("/jobs", json=job)
                assert (refused.status_code, refused.json()["code"]) == (400, "invalid_params")
                assert f"handler push, at {path}: " in refused.json()["detail"]
            await client.post("/jobs", json=JOB)  # started by hand alone: the call gives what it needs
            assert (await client.post("/jobs", json={**daily, "params": right})).status_code == 201
            assert (await client.put("/jobs/daily", json=daily)).json()["code"] == "invalid_params"
            trigger = "/jobs/promotion-push/trigger"
            for params in ({}, wrong):
                assert (await client.post(trigger, json={"params": params})).json()["code"] == "invalid_params"
            run = (await client.post(trigger, json={"params": right}, headers=key)).json()
            assert len(await executor.assigned(2)) == 2
            assert (await client.post("/jobs/early/trigger")).json()["code"] == "invalid_params"
        async with connected(admin, "two", schema=SCHEMA.replace("integer", "string")) as executor:
            await executor.came("welcome")
            assert (await client.post(f"/runs/{run['id']}/rerun")).json()["code"] == "invalid_params"
            again = await client.post(trigger, json={"params": right}, headers=key)
            assert again.json()["id"] == run["id"]


async def test_the_fleet_shows_who_is_connected_and_no_longer_who_left(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client:
        async with connected(admin, handlers=("push", "pull"), slots=3) as executor:
            await executor.came("welcome")
            (shown,) = (await client.get("/fleet")).json()["executors"]
            assert (shown["name"], shown["group"], shown["slots"]) == ("name of one", "promotion", 3)
            assert shown["handlers"] == ["pull", "push"]

        async def is_empty() -> bool:
            return (await client.get("/fleet")).json()["executors"] == []

        await until(is_empty)


async def test_an_executor_that_comes_back_takes_the_place_of_its_old_link(tmp_path):
    async with running_admin(tmp_path) as admin, admin.client() as client, connected(admin, "one") as old:
        await old.came("welcome")
        async with connected(admin, "one") as new:
            await new.came("welcome")
            await old.until_over()
            await client.post("/jobs", json=JOB)
            await client.post("/jobs/promotion-push/trigger")
            assert len(await new.assigned(2)) == 2


async def test_a_link_that_begins_with_anything_but_register_is_refused(tmp_path):
    async with running_admin(tmp_path) as admin, dial(admin.grpc) as channel:
        call = LinkServiceStub(channel).Connect(metadata=bearer(admin.executor_token))
        await call.write(link.ConnectRequest(beat=link.Beat(number=1)))
        with pytest.raises(ShardcastError, match="register"), renamed(admin.grpc):
            await call.read()


async def test_jobs_and_runs_are_the_same_over_grpc(tmp_path):
    async with running_admin(tmp_path) as admin, dial(admin.grpc) as channel, admin.client() as client:
        jobs, token = job_pb2_grpc.JobServiceStub(channel), bearer(admin.admin_token)
        job = job_pb2.Job(
            name="promotion-push",
            group="promotion",
            handler="push",
            trigger=job_pb2.Trigger(cron="0 0 9 * * ?", time_zone="Asia/Shanghai"),
            shards=job_pb2.Shards(count=3),
            params='{"a": 1}',
            retry=job_pb2.Retry(attempts=3, jitter=0.25, losses=7),
            timeout="30m",
            overlap="allow",
            overlap_limit=5,
        )
        made = (await jobs.Create(job_pb2.JobServiceCreateRequest(job=job), metadata=token)).job
        shown = (await client.get("/jobs/promotion-push")).json()
        assert (made.version, made.trigger.time_zone, made.retry.backoff) == (1, "Asia/Shanghai", "exponential")
        assert (shown["shards"], shown["params"], shown["timeout"]) == (3, {"a": 1}, "30m")
        assert (shown["overlap"], shown["overlap_limit"], shown["retry"]["jitter"]) == ("allow", 5, 0.25)
        assert (made.overlap_limit, made.retry.losses) == (5, 7)
        paused = await jobs.Pause(job_pb2.JobServicePauseRequest(name=job.name), metadata=token)
        assert (paused.job.paused, paused.job.next_fire_at_ms) == (True, 0)
        resumed = await jobs.Resume(job_pb2.JobServiceResumeRequest(name=job.name), metadata=token)
        assert resumed.job.next_fire_at_ms == made.next_fire_at_ms
        resumed.job.handler = "other"
        update = job_pb2.JobServiceUpdateRequest(job=resumed.job, version=3)
        assert (await jobs.Update(update, metadata=token)).job.handler == "other"
        request = job_pb2.JobServicePreviewFireTimesRequest(trigger=job.trigger, after_ms=1_700_000_000_000, count=2)
        fires = (await jobs.PreviewFireTimes(request, metadata=token)).fire_times_ms
        assert list(fires) == [1_700_010_000_000, 1_700_096_400_000]
        trigger = job_pb2.JobServiceTriggerRequest(name=job.name, params='{"b": 2}', idempotency_key="k")
        run = (await jobs.Trigger(trigger, metadata=token)).run
        assert (run.shards, run.params, run.state) == (3, '{"a":1,"b":2}', "waiting")
        runs = run_pb2_grpc.RunServiceStub(channel)
        shards = await runs.ListShards(run_pb2.RunServiceListShardsRequest(id=run.id), metadata=token)
        assert [shard.index for shard in shards.shards] == [0, 1, 2]
        listed = await runs.List(run_pb2.RunServiceListRequest(job=job.name, state="waiting"), metadata=token)
        assert [each.id for each in listed.runs] == [run.id]
        cancelled = await runs.Cancel(run_pb2.RunServiceCancelRequest(id=run.id), metadata=token)
        assert cancelled.run.state == "cancelled"
        await jobs.Delete(job_pb2.JobServiceDeleteRequest(name=job.name), metadata=token)
        assert list((await jobs.List(job_pb2.JobServiceListRequest(), metadata=token)).jobs) == []


async def test_grpc_refuses_with_the_same_codes(tmp_path):
    async with running_admin(tmp_path) as admin, dial(admin.grpc) as channel:
        runs, token = run_pb2_grpc.RunServiceStub(channel), bearer(admin.admin_token)
        request = run_pb2.RunServiceGetRequest(id="none")
        for metadata, refusal in [
            ((), Unauthenticated),
            (bearer(admin.executor_token), PermissionDenied),
        ]:
            with pytest.raises(refusal), renamed(admin.grpc):
                await runs.Get(request, metadata=metadata)
        with pytest.raises(ShardcastError) as caught, renamed(admin.grpc):
            await runs.Get(request, metadata=token)
        assert caught.value.code == "unknown_run"
        with pytest.raises(ShardcastError) as caught, renamed(admin.grpc):
            await runs.TailLogs(run_pb2.RunServiceTailLogsRequest(id="x"), metadata=token).read()
        assert caught.value.code == "unknown_run"


async def test_a_watcher_sees_each_state_until_the_end(tmp_path):
    async with (
        running_admin(tmp_path) as admin,
        admin.client() as client,
        dial(admin.grpc) as channel,
    ):
        await client.post("/jobs", json={**JOB, "shards": 1})
        run = (await client.post("/jobs/promotion-push/trigger")).json()
        runs = run_pb2_grpc.RunServiceStub(channel)
        watch = runs.Watch(run_pb2.RunServiceWatchRequest(id=run["id"]), metadata=bearer(admin.admin_token))
        async with asyncio.timeout(PATIENCE):
            states = [(await watch.read()).run.state]
            async with connected(admin) as executor:
                (assignment,) = await executor.assigned(1)
                while states[-1] != "running":
                    states.append((await watch.read()).run.state)
                await executor.report(assignment.attempt)
                states.append((await watch.read()).run.state)
                assert await watch.read() is grpc.aio.EOF
        assert list(dict.fromkeys(states)) == ["waiting", "running", "succeeded"]


async def test_a_directory_or_port_in_use_is_told_and_left_alone(tmp_path):
    async with running_admin(tmp_path) as admin:
        port = int(admin.http.rpartition(":")[2])
        for data, ports, refusal in [
            (tmp_path, (0, 0), DirectoryInUse),
            (tmp_path / "b", (port, 0), AddressInUse),
            (tmp_path / "c", (0, int(admin.grpc.rpartition(":")[2])), AddressInUse),
            (tmp_path / "lock" / "d", (0, 0), DirectoryUnusable),
        ]:
            settings = AdminSettings(data=data, http_port=ports[0], grpc_port=ports[1])
            with pytest.raises(refusal):
                async with build(settings):
                    pass
        async with admin.client() as client:
            assert (await client.get("/jobs")).status_code == 200


async def test_a_database_of_ones_own_is_checked_and_not_migrated(tmp_path):
    database = DatabaseSettings(url=f"sqlite:///{tmp_path / 'own.db'}")
    with pytest.raises(BadConfiguration, match="db upgrade"):
        async with build(AdminSettings(data=tmp_path, http_port=0, grpc_port=0, database=database)):
            pass


async def test_a_broker_without_an_address_is_a_fault_of_the_settings(tmp_path):
    with pytest.raises(BadConfiguration, match="broker: "):
        async with build(AdminSettings(data=tmp_path, http_port=0, grpc_port=0, broker="x y")):
            pass


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a#b", "a b", "50%", "a\nb", "a?mode=ro"])
async def test_the_database_lies_in_the_data_directory_whatever_its_name_is(tmp_path, name):
    async with running_admin(tmp_path / name) as admin, admin.client() as client:
        assert (await client.post("/jobs", json=JOB)).status_code == 201
    assert (tmp_path / name / "admin.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
