"""What monitors ask: alive, ready, and a few gauges."""

from collections.abc import Iterator

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from admin.domain.run import RunState
from admin.operations.fleet import Fleet
from admin.operations.runs import Runs


def probes_router(runs: Runs, fleet: Fleet) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/livez")
    async def livez() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @router.get("/readyz")
    async def readyz() -> PlainTextResponse:
        await runs.list(job=None, state=None, before=None, size=1)  # the database answers
        return PlainTextResponse("ok\n")

    @router.get("/metrics")
    async def metrics() -> PlainTextResponse:
        tally, executors = await runs.tally(), fleet.list()
        lines = [
            *_gauge("shardcast_runs", "Runs by state.", {f'{{state="{s}"}}': tally.get(s, 0) for s in RunState}),
            *_gauge("shardcast_executors", "Connected executors.", {"": len(executors)}),
            *_gauge(
                "shardcast_executor_slots",
                "Slots of connected executors.",
                {
                    '{state="used"}': sum(executor.used for executor in executors),
                    '{state="all"}': sum(executor.slots for executor in executors),
                },
            ),
        ]
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    return router


def _gauge(name: str, text: str, values: dict[str, int]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} gauge"
    for labels, value in values.items():
        yield f"{name}{labels} {value}"
