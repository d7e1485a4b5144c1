"""When a failed shard is tried again."""

import enum
from dataclasses import dataclass
from datetime import timedelta

_MS = timedelta(milliseconds=1)


class Backoff(enum.StrEnum):
    """How the pause grows from try to try."""

    FIXED = enum.auto()
    LINEAR = enum.auto()
    EXPONENTIAL = enum.auto()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` counts all tries, the first included."""

    attempts: int = 1
    backoff: Backoff = Backoff.EXPONENTIAL
    initial: timedelta = timedelta(seconds=5)
    max: timedelta = timedelta(minutes=5)
    jitter: float = 0.0  # the share of a pause, 0 to 1, by which it may be shorter
    losses: int = 100
    """Holders of one shard that may fall silent. They cost no attempt, so that killed executors do not fail a job that
    has one, but a shard that kills whoever holds it must come to an end."""


def pause_before_retry(policy: RetryPolicy, attempt: int, chance: float) -> timedelta:
    """How long a shard waits whose try number `attempt` (from 1) failed; `chance` is random, from 0 up to 1.

    In whole milliseconds, as stores keep instants.
    """
    return _whole_pause(policy, attempt) * (1 - policy.jitter * chance) // _MS * _MS


def _whole_pause(policy: RetryPolicy, attempt: int) -> timedelta:
    match policy.backoff:
        case Backoff.FIXED:
            factor = 1
        case Backoff.LINEAR:
            factor = attempt
        case Backoff.EXPONENTIAL:
            factor = 2 ** min(attempt - 1, 40)
    try:
        return min(policy.initial * factor, policy.max)
    except OverflowError:
        return policy.max
