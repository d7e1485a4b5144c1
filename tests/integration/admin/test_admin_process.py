"""The daemon as a process: ready line, drain on SIGTERM, exit codes."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from tests.support.admin_harness import JOB, PATIENCE, RunningAdmin, connected

pytestmark = pytest.mark.anyio


async def _start(data: Path, *flags: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "admin", "--data", str(data), "--http-port", "0", "--grpc-port", "0", *flags)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)


async def _ready(process: asyncio.subprocess.Process, data: Path) -> RunningAdmin:
    async with asyncio.timeout(PATIENCE * 3):
        line = json.loads(await process.stdout.readline())
    assert line["ready"] == "admin"
    tokens = [(data / f"{name}.token").read_text() for name in ("admin", "executor")]
    return RunningAdmin(line["http"], line["grpc"], *tokens)


async def test_sigterm_drains_rest_and_grpc_and_ends_with_zero(tmp_path):
    process = await _start(tmp_path)
    admin = await _ready(process, tmp_path)
    body = json.dumps(JOB).encode()
    head = (
        "POST /api/v1/jobs HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {admin.admin_token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with connected(admin) as executor, asyncio.timeout(PATIENCE):
        await executor.came("welcome")
        host, port = admin.http.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body[:5])
        await writer.drain()
        async with admin.client() as client:  # answered behind the half call, which therefore has begun
            await client.get("/jobs")
        process.send_signal(signal.SIGTERM)
        while b'"draining"' not in await process.stderr.readline():
            pass
        writer.write(body[5:])
        assert b"201 Created" in await reader.readline(), "what was begun is answered"
        await executor.until_over()
        assert executor.refusal() is None, "the link was closed, not cut"
        _, errors = await process.communicate()
        writer.close()
    assert process.returncode == 0
    assert b"Traceback" not in errors


async def test_what_was_acknowledged_survives_a_kill(tmp_path):
    process = await _start(tmp_path)
    admin = await _ready(process, tmp_path)
    async with admin.client() as client:
        await client.post("/jobs", json=JOB)
        run_id = (await client.post("/jobs/promotion-push/trigger")).json()["id"]
    process.kill()
    await process.communicate()
    process = await _start(tmp_path)
    admin = await _ready(process, tmp_path)
    async with admin.client() as client, connected(admin) as executor:
        assert (await client.get(f"/runs/{run_id}")).json()["state"] in ("waiting", "running")
        assert {assignment.attempt.run_id for assignment in await executor.assigned(2)} == {run_id}
    process.terminate()
    await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize(("flags", "code"), [(("--http-port", "70000"), 78), (("--http-port", "x"), 2)])
async def test_bad_settings_end_with_one_sentence_and_their_exit_code(tmp_path, flags, code):
    process = await _start(tmp_path, *flags)
    _, errors = await process.communicate()
    assert process.returncode == code
    assert "Traceback" not in errors.decode()
