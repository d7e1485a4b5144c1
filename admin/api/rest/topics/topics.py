"""Topics and a look at their messages over REST."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from admin.api.rest.jobs import PAGE, PageSize
from admin.api.rest.topics.broker_models import BrokerBody, broker_body
from admin.api.rest.topics.topic_models import (
    LookForm,
    MessagesBody,
    TopicBody,
    TopicDetailBody,
    TopicForm,
    TopicPatch,
    TopicsBody,
    messages_body,
    topic_body,
    topic_detail_body,
)
from admin.operations.groups import GroupDesk
from admin.operations.topics import TopicChange, TopicDesk
from broker.client.message import ReceivedMessage


def broker_router(topics: TopicDesk) -> APIRouter:
    router = APIRouter(tags=["topics"])

    @router.get("/broker")
    async def get_broker() -> BrokerBody:
        """The broker as a whole: what it stores, what holds the oldest of it, and how its disk does."""
        return broker_body(await topics.broker())

    return router


def topics_router(topics: TopicDesk, groups: GroupDesk) -> APIRouter:
    router = APIRouter(prefix="/topics", tags=["topics"])

    @router.get("")
    async def list_topics(page_size: PageSize = PAGE, page_token: str = "") -> TopicsBody:
        page = await topics.list(after=page_token, size=page_size)
        return TopicsBody(topics=[topic_body(topic) for topic in page.items], next_page_token=page.next_token)

    @router.post("", status_code=201)
    async def create_topic(form: TopicForm) -> TopicBody:
        policy = form.policy() if form.model_fields_set - {"name", "queues"} else None
        return topic_body(await topics.create(form.name, form.queues or 0, policy))

    @router.get("/{name}")
    async def get_topic(name: str) -> TopicDetailBody:
        return topic_detail_body(await topics.get(name), await groups.readers(name))

    @router.patch("/{name}")
    async def alter_topic(name: str, form: TopicPatch) -> TopicBody:
        change = TopicChange(form.write_queues or 0, form.read_queues or 0, form.over if form.changes else None)
        return topic_body(await topics.alter(name, change))

    @router.delete("/{name}", status_code=204)
    async def delete_topic(name: str) -> None:
        await topics.delete(name)

    @router.get("/{name}/messages")
    async def list_messages(name: str, look: Annotated[LookForm, Query()]) -> MessagesBody:
        """The latest messages, or those from an offset of a queue on, with a key, or stored at an instant or later."""
        return messages_body(await _found(topics, name, look))

    return router


async def _found(topics: TopicDesk, name: str, look: LookForm) -> Sequence[ReceivedMessage]:
    if look.key is not None:
        return await topics.find(name, look.key, look.limit)
    if look.at is not None:
        return await topics.since(name, look.queue, look.at, look.limit)
    if look.offset is not None and look.queue is not None:
        return await topics.read(name, look.queue, look.offset, look.limit)
    return await topics.latest(name, look.queue, look.limit)
