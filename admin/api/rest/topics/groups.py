"""Consumer groups and their dead letters over REST."""

from typing import Annotated

from fastapi import APIRouter, Query

from admin.api.rest.jobs import PAGE, PageSize
from admin.api.rest.topics.group_models import (
    DeadLettersBody,
    GroupBody,
    GroupPatch,
    GroupsBody,
    PurgedBody,
    PurgeForm,
    ResendForm,
    ResentBody,
    ResetBody,
    ResetForm,
    dead_letters_body,
    group_body,
    reset_body,
)
from admin.api.rest.topics.topic_models import Limit, Offset
from admin.operations.groups import GroupDesk, Resending


def groups_router(groups: GroupDesk) -> APIRouter:
    router = APIRouter(prefix="/groups", tags=["groups"])

    @router.get("")
    async def list_groups(topic: str | None = None, page_size: PageSize = PAGE, page_token: str = "") -> GroupsBody:
        """All groups, or those that read a topic."""
        page = await groups.list(topic=topic, after=page_token, size=page_size)
        return GroupsBody(groups=[group_body(group) for group in page.items], next_page_token=page.next_token)

    @router.get("/{name}")
    async def get_group(name: str) -> GroupBody:
        return group_body(await groups.get(name))

    @router.patch("/{name}")
    async def alter_group(name: str, form: GroupPatch) -> GroupBody:
        return group_body(await groups.alter(name, form.over))

    @router.delete("/{name}", status_code=204)
    async def delete_group(name: str) -> None:
        await groups.delete(name)

    @router.post("/{name}/reset")
    async def reset_group(name: str, form: ResetForm) -> ResetBody:
        """Moves the group on a topic; a preview changes nothing and takes no members amiss."""
        if form.preview:
            return reset_body(await groups.preview_reset(name, form.topic, form.to))
        reset = await groups.reset(name, form.topic, form.to, expected=form.expected, force=form.force)
        return reset_body(reset)

    return router


def dead_letters_router(groups: GroupDesk) -> APIRouter:
    router = APIRouter(prefix="/groups/{name}/dead-letters", tags=["dead letters"])

    @router.get("")
    async def list_dead_letters(
        name: str, offset: Annotated[Offset, Query()] = 0, limit: Annotated[Limit, Query()] = 20
    ) -> DeadLettersBody:
        """From an offset on, the oldest first."""
        return dead_letters_body(await groups.dead_letters(name, offset, limit))

    @router.post("/resend")
    async def resend_dead_letters(name: str, form: ResendForm) -> ResentBody:
        """Publishes dead letters to their own topic again, and drops them here."""
        order = Resending(form.offsets or (), form.first_offset, form.before_offset, form.messages_per_second)
        resent = await groups.resend(name, order)
        return ResentBody(resent=resent.count, next_offset=resent.next_offset)

    @router.post("/purge")
    async def purge_dead_letters(name: str, form: PurgeForm) -> PurgedBody:
        return PurgedBody(purged=await groups.purge(name, form.offsets or ()))

    return router
