"""The REST application: routes, errors, and a door that asks for a token."""

from dataclasses import dataclass

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin.api.rest.fleet import fleet_router, tokens_router
from admin.api.rest.jobs import jobs_router, orders_router
from admin.api.rest.probes import probes_router
from admin.api.rest.problems import add_handlers, problem
from admin.api.rest.runs import runs_router
from admin.api.rest.topics.groups import dead_letters_router, groups_router
from admin.api.rest.topics.topics import broker_router, topics_router
from admin.operations.access import Access
from admin.operations.fleet import Fleet
from admin.operations.groups import GroupDesk
from admin.operations.jobs import Jobs
from admin.operations.logs.reading import Logs
from admin.operations.runs import Runs
from admin.operations.topics import TopicDesk
from protos.errors import ShardcastError

BASE = "/api/v1"
MAX_BODY_BYTES = 1 << 20  # a job with the largest params is a tenth of it


@dataclass(frozen=True, slots=True)
class Operations:
    """What the interface offers."""

    jobs: Jobs
    runs: Runs
    logs: Logs
    fleet: Fleet
    access: Access
    topics: TopicDesk
    groups: GroupDesk


def rest_app(operations: Operations) -> FastAPI:
    app = FastAPI(title="Shardcast", version="1", openapi_url=f"{BASE}/openapi.json", docs_url=None, redoc_url=None)
    app.include_router(jobs_router(operations.jobs), prefix=BASE)
    app.include_router(orders_router(operations.jobs), prefix=BASE)
    app.include_router(runs_router(operations.runs, operations.logs), prefix=BASE)
    app.include_router(fleet_router(operations.fleet), prefix=BASE)
    app.include_router(tokens_router(operations.access), prefix=BASE)
    app.include_router(broker_router(operations.topics), prefix=BASE)
    app.include_router(topics_router(operations.topics, operations.groups), prefix=BASE)
    app.include_router(groups_router(operations.groups), prefix=BASE)
    app.include_router(dead_letters_router(operations.groups), prefix=BASE)
    app.include_router(probes_router(operations.runs, operations.fleet))
    app.add_middleware(Door, access=operations.access)
    add_handlers(app)
    return app


class Door:
    """Lets only administrators' tokens through to what lies under /api; before routing, so nothing is forgotten."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api"):
            scheme, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
            try:
                await self._access.authenticate_admin(secret if scheme.lower() == "bearer" else "")
            except ShardcastError as error:
                await problem(error)(scope, receive, send)
                return
        await self._app(scope, _bounded(receive), send)


def _bounded(receive: Receive) -> Receive:
    """The body up to its limit; what is longer is refused before it is read whole."""
    taken = 0

    async def receive_some() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY_BYTES:
            raise HTTPException(413, f"a body has at most {MAX_BODY_BYTES} bytes")
        return message

    return receive_some
