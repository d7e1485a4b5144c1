import asyncio
from collections.abc import Iterable, Sequence

import pytest

from broker.client.message import Message
from broker.client.publishing.gathering import GROUP_BYTES, SENDERS, Gathering
from broker.client.publishing.receipts import STORED_BEFORE, Receipt, Receipts
from broker.errors import DiskFull, TooLarge
from protos.broker.v1 import broker_pb2 as pb

pytestmark = pytest.mark.anyio

BAD = Message(b"bad")


class Broker:
    """Keeps what it is sent, whole or not at all, and answers when it is allowed to."""

    def __init__(self) -> None:
        self.requests: list[list[bytes]] = []
        self.stored: list[bytes] = []
        self.answers = asyncio.Event()
        self.remembers = True
        self.is_full = False

    async def publish_batch(self, messages: Sequence[Message]) -> Receipts:
        self.requests.append([message.body for message in messages])
        await self.answers.wait()
        if BAD in messages:
            raise TooLarge(what="key", size=2_000, limit=1_024)
        if self.is_full:
            raise DiskFull(path="log", free=1, reserve=2)
        part = pb.Range(first_offset=len(self.stored), count=len(messages))
        self.stored += [message.body for message in messages]
        return Receipts(pb.Published(duplicate=not self.remembers, ranges=[part] if self.remembers else []))


def publishing(gathering: Gathering, bodies: Iterable[bytes]) -> list[asyncio.Task[Receipt]]:
    return [asyncio.create_task(gathering.publish(Message(body))) for body in bodies]


async def until_sent(broker: Broker, requests: int) -> None:
    while len(broker.requests) < requests:
        await asyncio.sleep(0)


async def test_those_that_wait_at_the_same_time_travel_as_one_and_keep_their_receipts() -> None:
    broker = Broker()
    gathering = Gathering(broker.publish_batch)
    broker.answers.set()
    receipts = await asyncio.gather(*publishing(gathering, [b"a", b"b", b"c"]))
    assert broker.requests == [[b"a", b"b", b"c"]]
    assert [receipt.offset for receipt in receipts] == [0, 1, 2]


async def test_few_publishes_go_at_once_and_the_others_together_with_the_next() -> None:
    broker = Broker()
    gathering = Gathering(broker.publish_batch)
    tasks: list[asyncio.Task[Receipt]] = []
    for number in range(SENDERS):
        tasks += publishing(gathering, [b"%d" % number])
        await until_sent(broker, number + 1)
    tasks += publishing(gathering, [b"later", b"last"])
    broker.answers.set()
    await asyncio.gather(*tasks)
    assert broker.requests == [[b"0"], [b"1"], [b"2"], [b"3"], [b"later", b"last"]]


async def test_a_refusal_hits_only_the_message_that_it_is_about() -> None:
    broker = Broker()
    gathering = Gathering(broker.publish_batch)
    broker.answers.set()
    outcomes = await asyncio.gather(*publishing(gathering, [b"a", BAD.body, b"c"]), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Receipt, TooLarge, Receipt]
    assert broker.stored == [b"a", b"c"]


async def test_a_body_of_the_wrong_type_hits_nobody_else() -> None:
    broker = Broker()
    gathering = Gathering(broker.publish_batch)
    broker.answers.set()
    wrong = gathering.publish(Message(None))  # type: ignore[arg-type]
    outcomes = await asyncio.gather(wrong, *publishing(gathering, [b"a"]), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TypeError, Receipt]


async def test_a_refusal_that_is_about_none_of_them_is_not_asked_for_again() -> None:
    broker = Broker()
    gathering = Gathering(broker.publish_batch)
    broker.is_full = True
    broker.answers.set()
    outcomes = await asyncio.gather(*publishing(gathering, [b"a", b"b", b"c"]), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DiskFull] * 3
    assert broker.requests == [[b"a", b"b", b"c"]]


async def test_many_bytes_are_split_and_a_large_message_goes_alone() -> None:
    broker = Broker()
    gathering = Gathering(broker.publish_batch)
    broker.answers.set()
    half, large = bytes(GROUP_BYTES // 2), bytes(GROUP_BYTES + 1)
    await asyncio.gather(*publishing(gathering, [half, half, b"x", large, b"y"]))
    assert broker.requests == [[half, half], [b"x"], [large], [b"y"]]


async def test_an_answer_that_the_broker_does_not_remember_is_a_receipt_all_the_same() -> None:
    broker = Broker()
    broker.remembers = False
    gathering = Gathering(broker.publish_batch)
    broker.answers.set()
    assert await asyncio.gather(*publishing(gathering, [b"a", b"b"])) == [STORED_BEFORE, STORED_BEFORE]


async def test_who_gives_up_before_the_message_is_sent_takes_it_along() -> None:
    broker = Broker()
    gathering = Gathering(broker.publish_batch)
    first, second = publishing(gathering, [b"a", b"b"])
    await asyncio.sleep(0)
    first.cancel()
    broker.answers.set()
    assert (await second).offset == 0
    assert (first.cancelled(), broker.stored) == (True, [b"b"])


async def test_closing_ends_those_that_wait_for_an_answer() -> None:
    broker = Broker()
    gathering = Gathering(broker.publish_batch)
    tasks = publishing(gathering, [b"a"])
    await until_sent(broker, 1)
    await gathering.close()
    await asyncio.wait(tasks)
    assert tasks[0].cancelled()
