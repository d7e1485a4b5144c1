"""xxl-job-admin as a peer: an executor in its protocol that has done everything when it arrives.

The operator makes the jobs there (BEAN, any handler name, one-second, of the executor with this app name) and starts
them; what arrives is measured.
"""

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from benchmarks.scheduler.measure import percentile
from protos.http import HttpServer, listen

TOKEN_HEADER = "XXL-JOB-ACCESS-TOKEN"
APP_HEADER = "XXL-JOB-APPNAME"
LATENESS = "arrival minus the whole second of logDateTime"
_OK = 200
_REGISTER_SECONDS = 10.0
_CALL_BACK_SECONDS = 0.01
_PATIENCE = 100.0  # an executor that is new is seen within 30 s

Body = Mapping[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--xxl-job", default="", metavar="URL", help="root of an xxl-job-admin that is the peer")
    parser.add_argument("--xxl-job-token", default="default_token")
    parser.add_argument("--xxl-job-app", default="shardcast-bench", metavar="APPNAME", help="its jobs are measured")
    parser.add_argument("--xxl-job-executor", default="http://127.0.0.1:9999", metavar="URL", help="where it calls us")


def registry_body(app: str, url: str) -> Body:
    return {"registryGroup": "EXECUTOR", "registryKey": app, "registryValue": url}


def callback_body(runs: Sequence[Body], *, is_new: bool) -> object:
    """An array up to 3.4, in an object from 3.5 on."""
    time_name = "logDateTime" if is_new else "logDateTim"
    items = [{"logId": run["logId"], time_name: run["logDateTime"], "handleCode": _OK, "handleMsg": ""} for run in runs]
    return {"callbackList": items} if is_new else items


@dataclass
class XxlExecutor:
    """Answers an xxl-job-admin and keeps what arrives: (id of the job, planned second in ms, arrival in ms)."""

    arrivals: list[tuple[int, int, float]] = field(default_factory=list)
    ended: list[Body] = field(default_factory=list)
    is_new: bool = False  # 3.5: it calls /trigger in place of /run

    def answer(self, path: str, body: Body) -> Body:
        """Each call is fine; the payload has its old name and its new one."""
        payload: object = None
        if path in ("/run", "/trigger"):
            self.is_new = path == "/trigger"
            planned = int(body["logDateTime"]) // 1_000 * 1_000
            self.arrivals.append((int(body["jobId"]), planned, time.time() * 1_000))
            self.ended.append(body)
        elif path == "/log":
            payload = {"fromLineNum": body.get("fromLineNum", 1), "toLineNum": 0, "logContent": "", "isEnd": True}
        return {"code": _OK, "msg": None, "content": payload, "data": payload}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.json() if await request.body() else {}
        answer = self.answer(request.url.path, body if isinstance(body, dict) else {})
        await JSONResponse(dict(answer))(scope, receive, send)


@dataclass(frozen=True, slots=True)
class XxlAdmin:
    """The other side, as an executor calls it."""

    http: httpx.AsyncClient
    app: str
    url: str

    async def register(self) -> None:
        await self._post("registry", registry_body(self.app, self.url))

    async def keep_registering(self) -> None:
        while True:
            await asyncio.sleep(_REGISTER_SECONDS)
            await self.register()

    async def keep_calling_back(self, executor: XxlExecutor) -> None:
        """All that has ended meanwhile in one call."""
        while True:
            await asyncio.sleep(_CALL_BACK_SECONDS)
            runs, executor.ended = executor.ended, []
            if runs:
                await self._post("callback", callback_body(runs, is_new=executor.is_new))

    async def _post(self, name: str, body: object) -> None:
        answer = (await self.http.post(f"/api/{name}", json=body)).json()
        if answer["code"] != _OK:
            raise SystemExit(f"xxl-job-admin answered /api/{name}: {answer}")


async def measured(given: argparse.Namespace) -> Mapping[str, Mapping[str, float]]:
    """What the peer reached, by case and name of the peer; nothing where none is named."""
    if not given.xxl_job:
        return {}
    executor, here = XxlExecutor(), urlsplit(given.xxl_job_executor)
    headers = {TOKEN_HEADER: given.xxl_job_token, APP_HEADER: given.xxl_job_app}
    socket, server = listen(here.hostname or "127.0.0.1", here.port or 9999), HttpServer(executor, 1.0)
    async with httpx.AsyncClient(base_url=given.xxl_job, headers=headers, trust_env=False) as http:
        admin = XxlAdmin(http, given.xxl_job_app, given.xxl_job_executor)
        await admin.register()
        tasks = (server.serve([socket]), admin.keep_registering(), admin.keep_calling_back(executor))
        living = [asyncio.ensure_future(task) for task in tasks]
        try:
            async with asyncio.timeout(_PATIENCE):
                while not executor.arrivals:  # noqa: ASYNC110  # nothing else to do
                    await asyncio.sleep(0.1)
            await asyncio.sleep(given.warm_up)
            executor.arrivals.clear()
            await asyncio.sleep(given.seconds)
            return rates(executor.arrivals, given.seconds)
        finally:
            for task in living:
                task.cancel()
            await asyncio.gather(*living, return_exceptions=True)
            socket.close()


def rates(arrivals: Sequence[tuple[int, int, float]], seconds: float) -> Mapping[str, Mapping[str, float]]:
    name = f"xxl-job-admin, {len({job for job, _, _ in arrivals}):,} jobs"
    late = sorted(at - planned for _, planned, at in arrivals)
    fires = {f"fires {database}": {name: len(arrivals) / seconds} for database in ("sqlite", "postgresql")}
    return {**fires, **{f"lateness p{percent}": {name: percentile(late, percent)} for percent in (50, 99)}}
