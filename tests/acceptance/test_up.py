"""`shardcast up` with an application of a user's own, used through the command line, REST and gRPC."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.admin.v1 import job_pb2, job_pb2_grpc, run_pb2, run_pb2_grpc
from tests.support.demo_process import wait_for

APP = """
from pydantic import BaseModel
from shardcast import Context, Executor, Fail

app = Executor("shop")

class Params(BaseModel):
    times: int = 1

@app.job("greet")
def greet(context: Context, params: Params) -> dict[str, int]:
    return {"shard": context.shard.index, "times": params.times}

@app.job("refuse")
async def refuse() -> None:
    raise Fail("not today")
"""

JOBS = """
jobs:
  - name: greeting
    group: shop
    handler: greet
    trigger: {manual: true}
    shards: 3
    params: {times: 2}
  - name: refusal
    group: shop
    handler: refuse
"""


@dataclass(frozen=True)
class Up:
    process: subprocess.Popen[str]
    directory: Path

    @property
    def endpoints(self) -> dict[str, str]:
        endpoints: dict[str, str] = json.loads((self.directory / "data" / "endpoints.json").read_text())
        return endpoints

    @property
    def token(self) -> str:
        return Path(self.endpoints["token_file"]).read_text()

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line as a user calls it, against this admin."""
        environment = {"SHARDCAST_SERVER": self.endpoints["http"], "SHARDCAST_TOKEN_FILE": self.endpoints["token_file"]}
        return subprocess.run(
            [sys.executable, "-m", "shardcast", *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    directory = tmp_path_factory.mktemp("up")
    (directory / "shop.py").write_text(APP)
    (directory / "jobs.yaml").write_text(JOBS)
    with start(directory) as process:
        running = Up(process, directory)
        wait_for("the daemons", lambda: (directory / "data" / "endpoints.json").exists() or None)
        yield running
        process.terminate()
        assert process.wait(timeout=10) == 0
    assert not (directory / "data" / "endpoints.json").exists()


def start(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "shardcast", "up", "--data", "data", "--app", "shop:app", "--executors", "1"]
    ports = ["--http-port", "0", "--grpc-port", "0", "--broker-port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([*command, *ports], cwd=directory, env=environment, stdout=subprocess.PIPE, text=True)


def test_the_token_file_is_for_its_owner_alone(up: Up) -> None:
    assert Path(up.endpoints["token_file"]).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("group", [None, "shop"])
def test_a_token_made_is_printed_alone_and_can_be_revoked(up: Up, group: str | None) -> None:
    made = up.cli("token", "create", *(["--group", group] if group else []))
    [token] = made.stdout.split()
    token_id = made.stderr.split()[1]
    lists = up.cli("job", "list", "--token", token)
    assert lists.returncode == (77 if group else 0)
    assert up.cli("token", "revoke", token_id).returncode == 0
    assert up.cli("job", "list", "--token", token).returncode == 77


def test_jobs_are_applied_triggered_and_followed(up: Up) -> None:
    assert up.cli("job", "apply", str(up.directory / "jobs.yaml")).stdout.splitlines() == [
        "greeting: created",
        "refusal: created",
    ]
    (up.directory / "edited.yaml").write_text(JOBS.replace("times: 2", "times: 9"))
    assert up.cli("job", "diff", str(up.directory / "jobs.yaml")).returncode == 0
    edited = up.cli("job", "diff", str(up.directory / "edited.yaml"))
    assert (edited.returncode, "+  times: 9" in edited.stdout) == (1, True)
    assert "greeting: unchanged" in up.cli("job", "apply", str(up.directory / "jobs.yaml")).stdout
    done = up.cli("job", "trigger", "greeting", "--param", "times=5", "--wait", "-o", "json")
    run = json.loads(done.stdout)
    assert (done.returncode, run["state"], run["cause"], run["shards"]) == (0, "succeeded", "manual", 3)
    shards = json.loads(up.cli("run", "shards", run["id"], "-o", "json").stdout)["shards"]
    assert [shard["index"] for shard in shards] == [0, 1, 2]
    assert all(shard["state"] == "succeeded" and shard["attempt"] == 1 and shard["term"] == 1 for shard in shards)


def test_a_failed_run_exits_with_1_and_says_why(up: Up) -> None:
    up.cli("job", "apply", str(up.directory / "jobs.yaml"))
    done = up.cli("job", "trigger", "refusal", "--wait")
    assert done.returncode == 1
    assert "failed" in done.stderr


def test_a_paused_job_and_params_that_do_not_fit_are_refused_with_a_sentence(up: Up) -> None:
    up.cli("job", "apply", str(up.directory / "jobs.yaml"))
    up.cli("job", "pause", "greeting")
    paused = up.cli("job", "trigger", "greeting")
    assert (paused.returncode, "resume it first" in paused.stderr) == (1, True)
    up.cli("job", "resume", "greeting")
    wrong = up.cli("job", "trigger", "greeting", "--param", "times=often")
    assert (wrong.returncode, "params.times: 'often' is not of type 'integer'" in wrong.stderr) == (2, True)
    (up.directory / "wrong.yaml").write_text(
        JOBS.replace("{manual: true}", "{every: 1h}").replace("times: 2", "times: no")
    )
    assert up.cli("job", "apply", str(up.directory / "wrong.yaml")).returncode == 2


def test_the_same_idempotency_key_is_the_same_run(up: Up) -> None:
    up.cli("job", "apply", str(up.directory / "jobs.yaml"))
    trigger = ["job", "trigger", "greeting", "--idempotency-key", "nine o'clock", "-o", "json"]
    first, second = (json.loads(up.cli(*trigger).stdout)["id"] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [(["job", "get", "nobody"], 1), (["run", "get", "nobody"], 1), (["job", "list", "--token", "wrong"], 77)],
)
def test_what_is_not_there_or_not_allowed_is_one_sentence(up: Up, arguments: list[str], exit_code: int) -> None:
    done = up.cli(*arguments)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (exit_code, 1), done.stderr


def test_a_handler_that_nobody_registered_is_told_when_the_job_is_triggered(up: Up) -> None:
    job = {"name": "stray", "group": "shop", "handler": "nobody.knows"}
    with api(up) as client:
        client.post("/jobs", json=job)
        refused = client.post("/jobs/stray/trigger")
        assert (refused.status_code, refused.json()["code"]) == (409, "unknown_handler")
        assert "nobody.knows" in refused.json()["detail"]
        assert "greet" in refused.json()["detail"]
        assert client.get("/runs", params={"job": "stray"}).json()["runs"] == []


def test_rest_asks_for_a_token_and_names_each_problem(up: Up) -> None:
    nobody = httpx.get(f"{up.endpoints['http']}/api/v1/jobs", trust_env=False)
    assert (nobody.status_code, nobody.json()["code"]) == (401, "unauthenticated")
    with api(up) as client:
        missing = client.get("/jobs/nobody")
        assert missing.headers["content-type"] == "application/problem+json"
        assert (missing.status_code, missing.json()["code"]) == (404, "unknown_job")
        assert client.get("/openapi.json").json()["openapi"].startswith("3.")


def test_grpc_triggers_and_watches_a_run(up: Up) -> None:
    up.cli("job", "apply", str(up.directory / "jobs.yaml"))
    metadata = (("authorization", f"Bearer {up.token}"),)
    with grpc.insecure_channel(up.endpoints["grpc"]) as channel:
        jobs, runs = job_pb2_grpc.JobServiceStub(channel), run_pb2_grpc.RunServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            jobs.Get(job_pb2.JobServiceGetRequest(name="greeting"), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
        request = job_pb2.JobServiceTriggerRequest(name="greeting")
        run = jobs.Trigger(request, timeout=10, metadata=metadata).run
        *_, last = runs.Watch(run_pb2.RunServiceWatchRequest(id=run.id), timeout=30, metadata=metadata)
        assert last.run.state == "succeeded"


@pytest.mark.parametrize("server", ["grpc", "broker"])
def test_every_server_has_health_and_reflection(up: Up, server: str) -> None:
    with grpc.insecure_channel(up.endpoints[server]) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        answer = next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=10))
        names = {service.name for service in answer.list_services_response.service}
    wanted = {"grpc": "shardcast.admin.v1.JobService", "broker": "shardcast.broker.v1.BrokerService"}
    assert wanted[server] in names


def test_a_daemon_that_dies_is_started_again(up: Up) -> None:
    children = Path(f"/proc/{up.process.pid}/task/{up.process.pid}/children")
    broker = next(pid for pid in children.read_text().split() if b"broker" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(int(broker), signal.SIGKILL)

    def serving() -> bool | None:
        with grpc.insecure_channel(up.endpoints["broker"]) as channel:
            try:
                health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.RpcError:
                return None
        return broker not in children.read_text().split() or None

    assert wait_for("a new broker at the old address", serving)


def test_no_daemon_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    with start(tmp_path) as process:
        wait_for("the daemons", lambda: (tmp_path / "data" / "endpoints.json").exists() or None)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 3
        process.kill()
    wait_for("the daemons to leave", lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in children) or None)


def api(up: Up) -> httpx.Client:
    headers = {"authorization": f"Bearer {up.token}"}
    return httpx.Client(base_url=f"{up.endpoints['http']}/api/v1", headers=headers, trust_env=False, timeout=20)
