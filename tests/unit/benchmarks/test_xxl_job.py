"""The executor that measures an xxl-job-admin speaks its protocol, in the shapes of both generations."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from benchmarks.scheduler.yardsticks.xxl_job import XxlAdmin, XxlExecutor, callback_body, rates

RUN = {"jobId": 7, "logId": 70, "logDateTime": 1_700_000_000_250, "executorHandler": "nothing", "glueType": "BEAN"}


def asked(executor: XxlExecutor, *calls: tuple[str, object]) -> list[Any]:
    """What it answers to an admin that calls it over HTTP."""

    async def ask() -> list[Any]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(executor), base_url="http://executor") as http:
            return [(await http.post(path, json=body)).json() for path, body in calls]

    return asyncio.run(ask())


def test_every_call_is_answered_with_both_names_of_the_payload() -> None:
    executor = XxlExecutor()
    job, log = {"jobId": 7}, {"logId": 70}
    answers = asked(executor, ("/beat", ""), ("/idleBeat", job), ("/run", RUN), ("/kill", job), ("/log", log))
    assert [answer["code"] for answer in answers] == [200] * 5
    assert all(answer["content"] == answer["data"] for answer in answers)
    assert answers[-1]["data"]["isEnd"] is True
    assert [(job, planned) for job, planned, _ in executor.arrivals] == [(7, 1_700_000_000_000)]


@pytest.mark.parametrize(("path", "is_new"), [("/run", False), ("/trigger", True)])
def test_the_path_of_a_run_tells_how_it_is_called_back(path: str, is_new: bool) -> None:
    executor = XxlExecutor()
    asked(executor, (path, RUN))
    assert (executor.is_new, [run["logId"] for run in executor.ended]) == (is_new, [70])


def test_a_callback_is_an_array_for_the_old_and_an_object_for_the_new() -> None:
    old = {"logId": 70, "logDateTim": 1_700_000_000_250, "handleCode": 200, "handleMsg": ""}
    assert callback_body([RUN], is_new=False) == [old]
    new = {"logId": 70, "logDateTime": 1_700_000_000_250, "handleCode": 200, "handleMsg": ""}
    assert callback_body([RUN], is_new=True) == {"callbackList": [new]}


@pytest.mark.parametrize(("code", "is_refused"), [(200, False), (500, True)])
def test_it_registers_by_its_app_name_and_a_refusal_ends_it(code: int, is_refused: bool) -> None:
    came: list[tuple[str, object]] = []

    def on_request(request: httpx.Request) -> httpx.Response:
        came.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json={"code": code, "msg": "The access token is wrong."})

    async def register() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(on_request), base_url="http://admin/root") as http:
            await XxlAdmin(http, "bench", "http://here:9999").register()

    if is_refused:
        with pytest.raises(SystemExit, match="token is wrong"):
            asyncio.run(register())
    else:
        asyncio.run(register())
    body = {"registryGroup": "EXECUTOR", "registryKey": "bench", "registryValue": "http://here:9999"}
    assert came == [("/root/api/registry", body)]


def test_its_rates_stand_beside_the_cases_they_belong_to() -> None:
    found = rates([(1, 1_000, 1_010.0), (2, 1_000, 1_030.0)], seconds=2)
    assert found["fires sqlite"] == {"xxl-job-admin, 2 jobs": 1.0}
    assert found["lateness p99"] == {"xxl-job-admin, 2 jobs": 30.0}
