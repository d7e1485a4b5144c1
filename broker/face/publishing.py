"""Publishing: producers are opened, publish in order, and are forgotten."""

from broker.engine.commands import ForgetProducer, ForgetSilent, GetProducer, OpenProducer, StorePublish
from broker.errors import TooLarge
from broker.face.parts import Parts
from broker.model import Forgotten, HolderId, Opened, ProducerId, Publish, TopicName
from broker.producers.limits import CURSOR_BYTES, check_forgettable, check_identity, check_sequence, check_size
from broker.producers.rules import Producer
from broker.queues.encoding import EncodedRun, encode_batch
from broker.queues.placement import next_queue
from broker.writer import Answering

PUBLISH_BYTES = 8 << 20  # of records in one publish


class Publishing:
    """Belongs to one event loop. Once the broker drains, everything here raises BrokerStopping."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._next_queues: dict[TopicName, int] = {}

    async def publish(self, request: Publish) -> Answering:
        """Returns once the request is on its way, in the order of the calls; its answer is done when durable.

        Raises BadName, BadRequest, TooLarge, UnknownQueue, UnknownTopic; other refusals are answers.
        """
        self._parts.check_not_stopping()
        check_identity(request.producer_id, request.term, request.holder_id)
        check_sequence(request.sequence)
        check_size("cursor", request.cursor or b"", CURSOR_BYTES)
        stored_at_ms = self._parts.clock()
        runs = await self._encode(request, stored_at_ms)
        size = sum(len(run.records.data) for run in runs)
        if size > PUBLISH_BYTES:
            raise TooLarge(what="publish", size=size, limit=PUBLISH_BYTES)
        command = StorePublish(
            request.producer_id,
            request.term,
            request.holder_id,
            request.sequence,
            request.cursor,
            runs,
            stored_at_ms,
        )
        return await self._parts.writer.submit(command, size)

    async def _encode(self, request: Publish, stored_at_ms: int) -> list[EncodedRun]:
        runs: list[EncodedRun] = []
        for number, batch in enumerate(request.batches):
            topic = await self._parts.topic(batch.topic)
            first = self._next_queues.get(topic.name, 0)
            runs += encode_batch(number, topic, batch, first, stored_at_ms)
            self._next_queues[topic.name] = next_queue(first, len(batch.bodies), topic.write_queues)
        return runs

    async def open_producer(self, producer_id: ProducerId, term: int, holder_id: HolderId) -> Opened:
        """Raises BadRequest, TooLarge, ProducerUnknown, StaleTerm."""
        check_identity(producer_id, term, holder_id)
        answer = await self._parts.ask(OpenProducer(producer_id, term, holder_id))
        assert isinstance(answer, Opened)
        return answer

    async def get_producer(self, producer_id: ProducerId) -> Producer:
        """For display. Raises ProducerUnknown."""
        answer = await self._parts.ask(GetProducer(producer_id))
        assert isinstance(answer, Producer)
        return answer

    async def forget_producer(self, name: str) -> int:
        """One producer, or all below a name that ends in "/"; returns how many there were. Raises BadRequest."""
        check_forgettable(name)
        return await self._forget(ForgetProducer(name))

    async def forget_silent(self) -> int:
        """Those that have outlived their time."""
        return await self._forget(ForgetSilent())

    async def _forget(self, command: ForgetProducer | ForgetSilent) -> int:
        answer = await self._parts.ask(command)
        assert isinstance(answer, Forgotten)
        return answer.count
