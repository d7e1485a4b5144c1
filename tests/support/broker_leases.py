"""Messages for an engine's leases: publishes of keyed ones, and what members ask for."""

import itertools
from collections.abc import Sequence

from broker.delivery.leases.settling import Action, Settlement
from broker.engine.commands import JoinByLease, OpenProducer, StorePublish
from broker.engine.engine import Engine
from broker.engine.leasing.commands import Grave, Leased, LeaseMessages, LeasesSettled, SettleLeases
from broker.model import (
    Attributes,
    Beat,
    GroupName,
    GroupPolicy,
    HolderId,
    LogId,
    MemberId,
    ProducerId,
    QueueKey,
    Topic,
    TopicBatch,
    TopicId,
    TopicName,
)
from broker.queues.encoding import encode_batch

GROUP = GroupName("readers")
ORDERS = Topic(TopicName("orders"), TopicId(2), 1, 1)
DEAD = Topic(TopicName("%DLQ%readers"), TopicId(3), 1, 1)
GRAVE = Grave(DEAD.topic_id, LogId("log"))
POLICY = GroupPolicy(attempts=3, most_leased=6)
LEASE_MS = 10_000
SESSION_SECONDS = 60.0
_sequences = itertools.count(1)


def make_topics(engine: Engine) -> None:
    """ORDERS and DEAD."""
    topics = engine.catalog.topics
    assert topics.create(ORDERS.name, 1) == ORDERS
    assert topics.get_or_create_own(DEAD.name) == DEAD


def publish(engine: Engine, bodies: Sequence[bytes], keys: Sequence[str] = (), *, ordered: bool = False) -> None:
    """All into the only queue of ORDERS; the ordered are those with a key."""
    producer = ProducerId(f"producer/{next(_sequences)}")
    attributes = {at: Attributes(ordered=True) for at, key in enumerate(keys) if key} if ordered else {}
    batch = TopicBatch(ORDERS.name, bodies, [key.encode() for key in keys], attributes=attributes)
    runs = encode_batch(0, ORDERS, batch, 0, 5)
    holder = HolderId("h")
    engine.commit([OpenProducer(producer, 1, holder), StorePublish(producer, 1, holder, 1, None, runs, 5)])


def leasing(
    engine: Engine, member: str, messages: int, *, policy: GroupPolicy = POLICY, tags: Sequence[bytes] = ()
) -> LeaseMessages:
    ends = [engine.queues.queue(QueueKey(ORDERS.topic_id, 0)).end]
    return LeaseMessages(GROUP, MemberId(member), ORDERS, messages, LEASE_MS, frozenset(tags), [0], ends, policy, GRAVE)


def joining(member: str, group: GroupName = GROUP) -> JoinByLease:
    """Who leases is a member."""
    return JoinByLease(Beat(group, MemberId(member), frozenset([ORDERS.name]), SESSION_SECONDS), 0.0)


def lease(engine: Engine, member: str, messages: int, **given: object) -> list[tuple[int, int]]:
    """(offset, attempt) of what the member gets."""
    command = leasing(engine, member, messages, **given)  # type: ignore[arg-type]
    _, answer = engine.commit([joining(member), command]).answers
    assert isinstance(answer, Leased)
    return [(each.entry.offset, each.attempt) for each in answer.entries]


def settle(
    engine: Engine, member: str, action: Action, *handings: tuple[int, int], after_ms: int | None = None
) -> LeasesSettled:
    offsets, attempts = [offset for offset, _ in handings], [attempt for _, attempt in handings]
    settlement = Settlement(0, offsets, attempts, action, after_ms, "no")
    command = SettleLeases(GROUP, MemberId(member), ORDERS.name, ORDERS.topic_id, [settlement], POLICY, GRAVE, 0.0)
    (answer,) = engine.commit([command]).answers
    assert isinstance(answer, LeasesSettled)
    return answer
