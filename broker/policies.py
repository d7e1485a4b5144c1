"""Policies as they travel; read by the client and by the broker's edge."""

from datetime import timedelta
from typing import assert_never

from broker.errors import BadRequest
from broker.model import ROCKETMQ_WAITS_MS, Exponential, GroupPolicy, Steps, TopicPolicy
from protos.broker.v1 import broker_pb2 as pb

_LONGEST_MS = timedelta(days=36_525) // timedelta(milliseconds=1)


def from_group_policy(policy: GroupPolicy) -> pb.GroupPolicy:
    return pb.GroupPolicy(
        attempts=policy.attempts,
        backoff=_from_backoff(policy.backoff),
        messages_per_second=policy.messages_per_second,
        most_leased=policy.most_leased,
    )


def to_group_policy(policy: pb.GroupPolicy) -> GroupPolicy:
    """What is left out is the default."""
    default = GroupPolicy()
    return GroupPolicy(
        policy.attempts or default.attempts,
        _to_backoff(policy.backoff),
        policy.messages_per_second,
        policy.most_leased or default.most_leased,
    )


def _from_backoff(backoff: Steps | Exponential) -> pb.Backoff:
    match backoff:
        case Steps(waits_ms):
            return pb.Backoff(steps=pb.Steps(waits_ms=waits_ms))
        case Exponential(initial_ms, max_ms, multiplier):
            return pb.Backoff(exponential=pb.Exponential(initial_ms=initial_ms, max_ms=max_ms, multiplier=multiplier))
        case _:
            assert_never(backoff)


def _to_backoff(backoff: pb.Backoff) -> Steps | Exponential:
    if backoff.WhichOneof("kind") == "exponential":
        given = backoff.exponential
        return Exponential(given.initial_ms, given.max_ms, given.multiplier)
    return Steps(tuple(backoff.steps.waits_ms) or ROCKETMQ_WAITS_MS)


def from_topic_policy(policy: TopicPolicy) -> pb.TopicPolicy:
    return pb.TopicPolicy(
        is_readable=policy.is_readable,
        is_writable=policy.is_writable,
        retention_ms=policy.retention // timedelta(milliseconds=1) if policy.retention else 0,
        retention_bytes=policy.retention_bytes or 0,
        messages_per_second=policy.messages_per_second or 0.0,
    )


def to_topic_policy(policy: pb.TopicPolicy) -> TopicPolicy:
    """What is left out is the default. Raises BadRequest."""
    if not 0 <= policy.retention_ms <= _LONGEST_MS:
        raise BadRequest(reason=f"a retention is 0 to {_LONGEST_MS} ms, not {policy.retention_ms}")
    return TopicPolicy(
        not policy.HasField("is_readable") or policy.is_readable,
        not policy.HasField("is_writable") or policy.is_writable,
        timedelta(milliseconds=policy.retention_ms) if policy.retention_ms else None,
        policy.retention_bytes or None,
        policy.messages_per_second or None,
    )
