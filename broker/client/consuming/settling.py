"""What a member says of leased messages: words that wait at the same time travel as one request."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from broker.client.consuming.member import Member
from broker.client.message import Batch, ReceivedMessage
from protos.broker.v1 import broker_pb2 as pb
from protos.channel import CALL_SECONDS
from protos.errors import Unreachable, restore

Handing = tuple[int, int, int]
"""Queue, offset and attempt."""

MOST_MESSAGES = 20_000  # of one request


@dataclass(frozen=True, slots=True)
class Verb:
    """What shall become of messages; `after_ms` and `error` as in the request."""

    action: pb.Action.ValueType
    after_ms: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Word:
    verb: Verb
    handings: Sequence[Handing]
    heard: asyncio.Future[None]


class Settling:
    """Belongs to one event loop."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._waiting: defaultdict[str, list[_Word]] = defaultdict(list)
        self._sending: dict[str, asyncio.Task[None]] = {}

    async def say(self, verb: Verb, messages: Iterable[ReceivedMessage | Batch]) -> None:
        """Durable when this returns; waits while the broker is away.

        Raises LeaseExpired if any of the messages was not leased to this member any more; the others are settled. A
        word that had to be said again, because its answer was lost, is taken as heard.
        """
        by_topic = defaultdict[str, list[Handing]](list)
        for message in messages:
            by_topic[message.topic or ""] += _handings(message)
        heard = [self._add(topic, verb, handings) for topic, handings in by_topic.items()]
        if heard:
            await asyncio.wait(heard)
        for future in heard:
            future.result()

    async def close(self) -> None:
        """Returns when all that was said is heard."""
        await asyncio.gather(*self._sending.values(), return_exceptions=True)

    def _add(self, topic: str, verb: Verb, handings: Sequence[Handing]) -> asyncio.Future[None]:
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[topic].append(_Word(verb, handings, heard))
        if topic not in self._sending:
            self._sending[topic] = asyncio.create_task(self._send_all(topic))
        return heard

    async def _send_all(self, topic: str) -> None:
        try:
            while words := self._take(topic):
                try:
                    await self._send(topic, words)
                except asyncio.CancelledError:  # closed: no answer comes any more, to whatever was said
                    _settle([*words, *self._waiting[topic]], Unreachable(address=self._member.endpoint))
                    raise
                except Exception as error:  # whoever waits for a word hears of it, whatever went wrong
                    _settle(words, error)
        finally:
            del self._sending[topic]

    def _take(self, topic: str) -> list[_Word]:
        """The first words that wait, as many as fit into a request, which says one thing of each message."""
        waiting, count, size, told = self._waiting[topic], 0, 0, set[tuple[int, int]]()
        for word in waiting:
            places = {(queue, offset) for queue, offset, _ in word.handings}
            size += len(word.handings)
            if count and (size > MOST_MESSAGES or not told.isdisjoint(places)):
                break
            told |= places
            count += 1
        taken, self._waiting[topic] = waiting[:count], waiting[count:]
        return taken

    async def _send(self, topic: str, words: Sequence[_Word]) -> None:
        member = self._member
        request = pb.SettleRequest(
            group=member.reads.group,
            member_id=member.member_id,
            topic=topic,
            settlements=[settlement for word in words for settlement in _settlements(word)],
        )
        response, times = await member.ask_patiently(
            "settle", lambda: member.stub.Settle(request, timeout=CALL_SECONDS, metadata=member.metadata)
        )
        refused = {(each.queue, each.offset): each.refusal for each in response.refused} if times == 1 else {}
        for word in words:
            refusal = next((refused[at[:2]] for at in word.handings if at[:2] in refused), None) if refused else None
            error = restore(refusal.code, refusal.message, refusal.fields) if refusal else None
            _settle([word], error)


def _handings(message: ReceivedMessage | Batch) -> Iterable[Handing]:
    if isinstance(message, Batch):
        columns = message.columns
        return zip(columns.queues, columns.offsets, columns.attempts, strict=True)
    return [(message.queue, message.offset, message.attempt)]


def _settlements(word: _Word) -> Iterator[pb.Settlement]:
    by_queue = defaultdict[int, tuple[list[int], list[int]]](lambda: ([], []))
    for queue, offset, attempt in word.handings:
        offsets, attempts = by_queue[queue]
        offsets.append(offset)
        attempts.append(attempt)
    verb = word.verb
    for queue, (offsets, attempts) in by_queue.items():
        yield pb.Settlement(
            queue=queue,
            offsets=offsets,
            attempts=attempts,
            action=verb.action,
            after_ms=verb.after_ms,
            error=verb.error,
        )


def _settle(words: Iterable[_Word], error: Exception | None) -> None:
    for word in words:
        if word.heard.done():  # whoever said it has gone
            continue
        if error is None:
            word.heard.set_result(None)
        else:
            word.heard.set_exception(error)
            word.heard.exception()  # looked at: its sayer may be gone
