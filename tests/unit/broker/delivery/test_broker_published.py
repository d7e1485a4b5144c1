"""Rates of topics from where their queues end."""

from broker.delivery.published import PublishedRates
from broker.model import QueueKey, QueueRange, TopicId

ORDERS, OTHERS = TopicId(1), TopicId(2)


def held(**ends: int) -> dict[QueueKey, QueueRange]:
    keys = {"first": QueueKey(ORDERS, 0), "second": QueueKey(ORDERS, 1), "other": QueueKey(OTHERS, 0)}
    return {keys[name]: QueueRange(0, end) for name, end in ends.items()}


def test_a_rate_counts_what_came_over_the_last_minute() -> None:
    rates = PublishedRates()
    rates.look(held(first=1_000), 0)
    rates.look(held(first=1_040, second=20), 1_000)
    rates.look(held(first=1_100, second=20, other=30), 59_999)
    assert rates.per_second(ORDERS, 59_999) == 2.0
    assert rates.per_second(OTHERS, 59_999) == 30.0
    assert rates.per_second(ORDERS, 118_000) == 1.0
    assert rates.per_second(TopicId(3), 59_999) == 0.0


def test_a_deleted_topic_is_forgotten() -> None:
    rates = PublishedRates()
    rates.look(held(), 0)
    rates.look(held(other=60), 1_000)
    rates.look(held(), 2_000)
    assert rates.per_second(OTHERS, 2_000) == 0.0
