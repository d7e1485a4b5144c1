"""The fleet and the tokens over REST."""

from fastapi import APIRouter

from admin.api.rest.models import (
    FleetBody,
    NewTokenBody,
    TokenForm,
    TokensBody,
    executor_body,
    token_body,
)
from admin.domain.names import Group, TokenId
from admin.operations.access import Access
from admin.operations.fleet import Fleet


def fleet_router(fleet: Fleet) -> APIRouter:
    router = APIRouter(tags=["fleet"])

    @router.get("/fleet")
    async def list_fleet() -> FleetBody:
        return FleetBody(executors=[executor_body(executor) for executor in fleet.list()])

    return router


def tokens_router(access: Access) -> APIRouter:
    router = APIRouter(prefix="/tokens", tags=["tokens"])

    @router.post("", status_code=201)
    async def create_token(form: TokenForm) -> NewTokenBody:
        token, secret = await access.create(form.name, Group(form.group) if form.group is not None else None)
        return NewTokenBody(**token_body(token).model_dump(), token=secret)

    @router.get("")
    async def list_tokens() -> TokensBody:
        return TokensBody(tokens=[token_body(token) for token in await access.list()])

    @router.delete("/{token_id}", status_code=204)
    async def revoke_token(token_id: str) -> None:
        await access.revoke(TokenId(token_id))

    return router
