"""What an executor said is handled in its order; what is alike and stands together, at once."""

import asyncio

import pytest

from admin.dispatch import inbox as module
from admin.dispatch.inbox import Inbox
from protos.executor.v1 import link_pb2 as pb

pytestmark = pytest.mark.anyio


def report(*terms: int) -> pb.ConnectRequest:
    request = pb.ConnectRequest()
    for term in terms:
        request.report.outcomes.add().attempt.term = term
    request.report.SetInParent()
    return request


def accept(*terms: int) -> pb.ConnectRequest:
    request = pb.ConnectRequest()
    for term in terms:
        request.accept.attempts.add().term = term
    return request


def beat() -> pb.ConnectRequest:
    request = pb.ConnectRequest()
    request.beat.SetInParent()
    return request


async def said(inbox: Inbox) -> list[tuple[str, list[int]]]:
    """All that waits, once nothing more comes."""
    await inbox.close()
    return [(request.WhichOneof("kind"), _terms(request)) async for request in inbox]


def _terms(request: pb.ConnectRequest) -> list[int]:
    match request.WhichOneof("kind"):
        case "report":
            return [outcome.attempt.term for outcome in request.report.outcomes]
        case "accept":
            return [attempt.term for attempt in request.accept.attempts]
        case _:
            return []


async def filled(*requests: pb.ConnectRequest) -> Inbox:
    inbox = Inbox()
    for request in requests:
        await inbox.put(request)
    return inbox


async def test_reports_and_acceptances_that_stand_together_become_one():
    inbox = await filled(report(1), report(2, 3), accept(4), accept(5), report(6))
    assert await said(inbox) == [("report", [1, 2, 3]), ("accept", [4, 5]), ("report", [6])]


async def test_nothing_overtakes_what_is_of_another_kind():
    inbox = await filled(report(1), beat(), report(2), beat(), beat())
    assert await said(inbox) == [("report", [1]), ("beat", []), ("report", [2]), ("beat", []), ("beat", [])]


async def test_no_more_are_joined_than_go_together(monkeypatch):
    monkeypatch.setattr(module, "MOST_TOGETHER", 2)
    inbox = await filled(report(1), report(2), report(3), accept(4, 5), accept(6))
    assert await said(inbox) == [("report", [1, 2]), ("report", [3]), ("accept", [4, 5]), ("accept", [6])]


async def test_who_says_too_much_waits_until_some_of_it_is_handled(monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    inbox = await filled(beat(), report(1))
    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        waiting = group.create_task(inbox.put(accept(2)))
        requests = aiter(inbox)
        await asyncio.sleep(0)
        assert not waiting.done()
        assert (await anext(requests)).WhichOneof("kind") == "beat"
        await waiting
    assert await said(inbox) == [("report", [1]), ("accept", [2])]


async def test_who_listens_hears_what_comes_and_the_end():
    inbox = Inbox()

    async def listen() -> list[str | None]:
        return [request.WhichOneof("kind") async for request in inbox]

    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        listening = group.create_task(listen())
        await inbox.put(beat())
        await inbox.put(report(1))
        await inbox.close()
    assert listening.result() == ["beat", "report"]


async def test_what_comes_behind_the_end_is_dropped():
    inbox = await filled(beat())
    await inbox.close()
    await inbox.put(report(1))
    assert await said(inbox) == [("beat", [])]


async def test_what_was_dropped_is_handled_by_nobody_and_nobody_waits_for_it(monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 1)
    inbox = await filled(beat())
    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        waiting = group.create_task(inbox.put(report(1)))
        await asyncio.sleep(0)
        inbox.drop()
        await inbox.close()
        await waiting
    assert await said(inbox) == []


async def test_a_link_has_room_again_however_often_reports_were_handled_together(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    inbox = Inbox()
    handled = aiter(inbox)
    async with asyncio.timeout(10):
        for term in range(1, 200):
            await inbox.put(report(term))
            await inbox.put(report(term))
            assert _terms(await anext(handled)) == [term, term]
