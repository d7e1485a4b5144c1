"""Whatever is refused, killed, drained or too late: each message leads to its messages once, in order."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from broker.client.message import Message, ReceivedMessage
from broker.model import Mode
from executor.errors import Fail, Retry, Skip
from executor.model import Handled
from executor.registry import Listener
from executor.running.listening import relaying
from executor.running.listening.listening import Listening
from tests.support.relay_world import TOO_LARGE, TOO_LATE, World

KINDS = ("plain", "plain", "plain", "plain", "none", "many", "fail", "raise", "large", "late", "skip")
HOPELESS = ("fail", "raise", "large", "late")


def made(message: ReceivedMessage, chance: random.Random) -> Sequence[Message]:
    """What a message leads to. May ask for the second attempt, which is the last."""
    number, kind = message.body.decode().split()
    if message.attempt == 1 and chance.random() < 0.1:
        raise Retry(after=0)
    match kind:
        case "fail":
            raise Fail("never")
        case "raise":
            raise RuntimeError("never")
        case "skip":
            return ()
        case "large":
            return [Message(TOO_LARGE)]
        case "late":
            return [Message(b"before"), Message(TOO_LATE)]
        case _:
            count = {"none": 0, "plain": 1, "many": 3}[kind]
            return [Message(f"{number} {index}".encode()) for index in range(count)]


def expected(inputs: Sequence[str]) -> list[bytes]:
    counts = {"plain": 1, "many": 3}
    return [b"%d %d" % (n, index) for n, kind in enumerate(inputs) for index in range(counts.get(kind, 0))]


def a_listener(chance: random.Random, takes_one: bool) -> Listener:
    async def single(message: ReceivedMessage) -> object:
        if chance.random() < 0.2:
            return Handled(0, after=0)
        if message.body.endswith(b"skip"):
            return Skip()
        return made(message, chance)

    async def several(messages: list[ReceivedMessage]) -> object:
        count = chance.randint(0, len(messages)) if chance.random() < 0.3 else len(messages)
        outputs = [each for message in messages[:count] for each in made(message, chance)]
        return Handled(count, outputs, after=0) if count < len(messages) else outputs

    function = single if takes_one else several
    return Listener(("in",), "g", function, True, takes_one, Mode.OFFSET, 8, 100, to="out")


async def live(world: World, listener: Listener, endings: Sequence[str]) -> None:
    """One process after the other: killed, drained, or left to go on as one that is too late."""
    late: list[asyncio.Task[None]] = []
    for ending in endings:
        running = Listening(listener, world)
        task = asyncio.create_task(running.run())
        for _ in range(world.chance.randrange(200)):
            await asyncio.sleep(0)
        match ending:
            case "killed":
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            case "drained":
                running.stop()
                await task
            case _:
                late.append(task)
    last = Listening(listener, world)
    task = asyncio.create_task(last.run())
    async with asyncio.timeout(20):
        while world.committed < len(world.inputs):
            await asyncio.sleep(0)
        last.stop()
        await task
    for each in late:
        each.cancel()
    await asyncio.gather(*late, return_exceptions=True)


@given(
    inputs=st.lists(st.sampled_from(KINDS), max_size=60),
    seed=st.integers(0, 2**32),
    endings=st.lists(st.sampled_from(("killed", "drained", "late")), max_size=5),
    takes_one=st.booleans(),
    full=st.sampled_from((0.0, 0.05)),
)
@settings(max_examples=150, deadline=None)
def test_each_message_leads_to_its_messages_once_and_in_order(
    inputs: list[str], seed: int, endings: list[str], takes_one: bool, full: float
) -> None:
    chance = random.Random(seed)
    world = World([f"{n} {kind}".encode() for n, kind in enumerate(inputs)], chance, full)
    with pytest.MonkeyPatch.context() as patched, capture_logs():  # showing thousands of tracebacks takes a minute
        patched.setattr(relaying, "DISK_FULL_SECONDS", 0)
        asyncio.run(live(world, a_listener(chance, takes_one), endings))
    assert world.out == expected(inputs)
    assert world.dead == [n for n, kind in enumerate(inputs) if kind in HOPELESS]
