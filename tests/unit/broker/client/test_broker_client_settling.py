"""Words about leased messages: those that wait together travel together, and what was said twice is taken as heard."""

import asyncio
from collections.abc import Sequence

import pytest

from broker.client.consuming.member import Member, Reads
from broker.client.consuming.settling import Settling, Verb
from broker.client.message import Batch, Columns
from broker.errors import BadRequest, BrokerStopping, LeaseExpired
from protos.broker.v1 import broker_pb2 as pb
from protos.errors import ShardcastError, Unreachable

pytestmark = pytest.mark.anyio

ACKNOWLEDGE = Verb(pb.ACTION_ACKNOWLEDGE)


class FakeStub:
    """Refuses the offsets it is told to; each call first raises what is left of `faults`."""

    def __init__(self, *, refused: Sequence[int] = (), faults: Sequence[ShardcastError] = ()) -> None:
        self.requests: list[pb.SettleRequest] = []
        self.refused = refused
        self.faults = [*faults]

    async def Settle(self, request: pb.SettleRequest, **given: object) -> pb.SettleResponse:  # noqa: N802
        await asyncio.sleep(0)
        self.requests.append(request)
        if self.faults:
            raise self.faults.pop(0)
        refusal = pb.Refusal(code="lease_expired", message="gone")
        offsets = (offset for each in request.settlements for offset in each.offsets)
        return pb.SettleResponse(
            refused=[pb.RefusedSettlement(offset=at, refusal=refusal) for at in offsets if at in self.refused]
        )


def settling(stub: FakeStub) -> Settling:
    reads = Reads("readers", ["t"], "earliest", (), 32)
    return Settling(Member(reads, "127.0.0.1:1", stub, ()))  # type: ignore[arg-type]


def batch(*offsets: int) -> Batch:
    count = len(offsets)
    columns = Columns([b""] * count, [], [], [0] * count, {}, offsets, None, [0] * count, [1] * count)
    return Batch("t", -1, 0, 0, "log", 1, columns)


async def test_words_that_wait_together_travel_together() -> None:
    stub = FakeStub()
    words = settling(stub)
    await asyncio.gather(*(words.say(ACKNOWLEDGE, [message]) for message in batch(*range(100))))
    assert [len(request.settlements) for request in stub.requests] == [100]


async def test_a_refusal_hits_only_whose_message_it_is() -> None:
    words = settling(FakeStub(refused=[1]))
    said = (words.say(ACKNOWLEDGE, [message]) for message in batch(0, 1, 2))
    outcomes = await asyncio.gather(*said, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), LeaseExpired, type(None)]


async def test_a_word_whose_answer_was_lost_is_said_again_and_taken_as_heard() -> None:
    stub = FakeStub(refused=[0], faults=[BrokerStopping()])
    await settling(stub).say(ACKNOWLEDGE, [batch(0, 1)])
    first, second = stub.requests
    assert first == second


async def test_two_words_about_one_message_travel_one_after_the_other() -> None:
    """In one request the first would count, and the other be refused: who finishes while it is extended is done."""
    stub = FakeStub()
    words, messages = settling(stub), batch(0, 1)
    extending = asyncio.create_task(words.say(Verb(pb.ACTION_EXTEND, 1_000), [messages]))
    done = [asyncio.create_task(words.say(ACKNOWLEDGE, [message])) for message in messages]
    await asyncio.gather(extending, *done)
    assert [[each.action for each in request.settlements] for request in stub.requests] == [
        [pb.ACTION_EXTEND],
        [pb.ACTION_ACKNOWLEDGE, pb.ACTION_ACKNOWLEDGE],
    ]


async def test_a_refused_request_is_told_to_all_who_spoke_and_the_next_ones_go_on() -> None:
    words = settling(FakeStub(faults=[BadRequest(reason="no")]))
    said = (words.say(ACKNOWLEDGE, [message]) for message in batch(0, 1))
    assert {type(each) for each in await asyncio.gather(*said, return_exceptions=True)} == {BadRequest}
    await words.say(ACKNOWLEDGE, [batch(2)])


async def test_when_it_is_closed_before_the_broker_answers_all_hear_that_nothing_answered() -> None:
    class SilentStub(FakeStub):
        async def Settle(self, request: pb.SettleRequest, **given: object) -> pb.SettleResponse:  # noqa: N802
            return await asyncio.Future()

    words = settling(SilentStub())
    first, again = (asyncio.create_task(words.say(ACKNOWLEDGE, [batch(0)])) for _ in range(2))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await words.close()
    for said in (first, again):
        with pytest.raises(Unreachable):
            await asyncio.wait_for(said, 10)


async def test_nothing_said_is_nothing_sent() -> None:
    stub = FakeStub()
    await settling(stub).say(ACKNOWLEDGE, [])
    assert stub.requests == []


async def test_a_word_that_cannot_be_sent_keeps_nobody_waiting() -> None:
    stub = FakeStub()
    with pytest.raises(ValueError, match="range"):
        await settling(stub).say(Verb(pb.ACTION_RETRY, after_ms=-1), [batch(1)])
    assert stub.requests == []
