"""Publishing: producers are opened, publish in order, and are forgotten."""

from collections.abc import Sequence

from broker.engine.commands import (
    ForgetProducer,
    ForgetSilent,
    GetProducer,
    OpenProducer,
    RefusePublish,
    StorePublish,
)
from broker.errors import BadRequest, BrokerError, BrokerStopping, TooLarge, TopicPermission
from broker.face.delays import DueDeliverer
from broker.face.paces import LONGEST_SLEEP_SECONDS
from broker.face.parts import Parts
from broker.model import Forgotten, HolderId, Opened, ProducerId, Publish, Topic, TopicId, TopicName
from broker.producers.limits import CURSOR_BYTES, check_forgettable, check_identity, check_sequence, check_size
from broker.producers.rules import Producer
from broker.producers.transactions import check_part
from broker.queues.encoding import EncodedRun, encode_batch
from broker.queues.placement import next_queue
from broker.queues.topics import is_own
from broker.writer import Answering

PUBLISH_BYTES = 8 << 20  # of records in one publish
MOST_AT_ONCE = 4_096  # messages that are encoded on the event loop, a few ms; more go beside it


class Publishing:
    """Belongs to one event loop. Once the broker drains, everything here raises BrokerStopping."""

    def __init__(self, parts: Parts, deliverer: DueDeliverer) -> None:
        self._parts = parts
        self._deliverer = deliverer
        self._next_queues: dict[TopicName, int] = {}

    async def publish(self, request: Publish) -> Answering:
        """Returns once the request is on its way, in the order of the calls; its answer is done when durable.

        Raises BadRequest and TooLarge for what no producer can be or send. Whatever else refuses it is an answer, told
        by the writer: a publish that was stored before stays a duplicate although the disk is full by now, or its topic
        is closed or gone.
        """
        self._parts.check_not_stopping()
        check_identity(request.producer_id, request.term, request.holder_id)
        check_sequence(request.sequence)
        check_size("cursor", request.cursor or b"", CURSOR_BYTES)
        try:
            command, size = await self._prepared(request)
        except BrokerStopping:
            raise
        except BrokerError as refusal:
            who = request.producer_id, request.term, request.holder_id, request.sequence
            return await self._parts.writer.submit(RefusePublish(*who, refusal))
        answering = await self._parts.writer.submit(command, size)
        due_ms = _first_due_ms(command.runs)
        if due_ms is not None:
            answering.add_done_callback(lambda _: self._deliverer.expect(due_ms))
        return answering

    async def _prepared(self, request: Publish) -> tuple[StorePublish, int]:
        """What the writer is asked, and its bytes.

        Raises BadName, BadRequest, DelayTooLong, DiskFull, TooLarge, TopicPermission, UnknownQueue, UnknownTopic.
        """
        self._parts.space.check()
        if request.transaction is not None:
            check_part(request.transaction)
        await self._keep_to_rates(request)
        stored_at_ms = self._parts.clock()
        runs = await self._encode(request, stored_at_ms)
        size = sum(len(run.records.data) for run in runs)
        if size > PUBLISH_BYTES:
            raise TooLarge(what="publish", size=size, limit=PUBLISH_BYTES)
        if request.transaction is not None and _first_due_ms(runs) is not None:
            raise BadRequest(reason="a message of a transaction cannot be delayed")
        command = StorePublish(
            request.producer_id,
            request.term,
            request.holder_id,
            request.sequence,
            request.cursor,
            runs,
            stored_at_ms,
            request.transaction,
        )
        return command, size

    async def _encode(self, request: Publish, stored_at_ms: int) -> list[EncodedRun]:
        runs: list[EncodedRun] = []
        for number, batch in enumerate(request.batches):
            topic, count = await self._writable(batch.topic), len(batch.bodies)
            first = self._next_queues.get(topic.name, 0)
            self._next_queues[topic.name] = next_queue(first, count, topic.write_queues)
            if count <= MOST_AT_ONCE:
                runs += encode_batch(number, topic, batch, first, stored_at_ms)
            else:
                runs += await self._parts.on_disk(encode_batch, number, topic, batch, first, stored_at_ms)
        return runs

    async def _writable(self, name: TopicName) -> Topic:
        """Raises BadName, TopicPermission, UnknownTopic."""
        if is_own(name):
            raise TopicPermission(topic=name, ability="writable: it is the broker's own")
        topic = await self._parts.topic(name)
        if not topic.policy.is_writable:
            raise TopicPermission(topic=name, ability="writable")
        return topic

    async def _keep_to_rates(self, request: Publish) -> None:
        """Returns when all topics can take more. Whoever publishes on another stream is not held up."""
        for batch in request.batches:
            topic = await self._writable(batch.topic)
            if topic.policy.messages_per_second is not None:
                await self._keep_to_rate(topic.topic_id, len(batch.bodies))

    async def _keep_to_rate(self, topic_id: TopicId, count: int) -> None:
        paces, topics = self._parts.paces, self._parts.catalog.topics
        async with paces.turn(topic_id):
            while (topic := topics.by_id(topic_id)) is not None:
                rate = topic.policy.messages_per_second
                seconds = paces.seconds_left(topic_id, rate)
                if not seconds:
                    paces.take(topic_id, rate, count)
                    return
                await self._parts.is_stopping_within(min(seconds, LONGEST_SLEEP_SECONDS))
                self._parts.check_not_stopping()

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


def _first_due_ms(runs: Sequence[EncodedRun]) -> int | None:
    """When the first of the delayed messages is due; None: there are none."""
    return min((min(run.dues) for run in runs if run.dues), default=None)
