"""What a group's policy may say."""

import math

from broker.errors import BadRequest
from broker.model import LONGEST_LEASE_MS, Exponential, GroupPolicy, Steps

MOST_ATTEMPTS = 1_000
MOST_LEASED = 100_000
MOST_STEPS = 100


def check_policy(policy: GroupPolicy) -> None:
    """Raises BadRequest."""
    if not 1 <= policy.attempts <= MOST_ATTEMPTS:
        raise BadRequest(reason=f"a group has 1 to {MOST_ATTEMPTS:,} attempts, not {policy.attempts:,}")
    if not 1 <= policy.most_leased <= MOST_LEASED:
        raise BadRequest(reason=f"a group leases at most 1 to {MOST_LEASED:,} messages, not {policy.most_leased:,}")
    if not (math.isfinite(policy.messages_per_second) and policy.messages_per_second >= 0):
        raise BadRequest(reason=f"{policy.messages_per_second} messages a second is no rate")
    _check_backoff(policy.backoff)


def _check_backoff(backoff: Steps | Exponential) -> None:
    if isinstance(backoff, Steps):
        if not 1 <= len(backoff.waits_ms) <= MOST_STEPS:
            raise BadRequest(reason=f"a backoff has 1 to {MOST_STEPS} steps, not {len(backoff.waits_ms)}")
        longest = max(backoff.waits_ms)
    else:
        if not (math.isfinite(backoff.multiplier) and backoff.multiplier >= 1):
            raise BadRequest(reason=f"a backoff is multiplied by 1 or more, not by {backoff.multiplier}")
        if not 1 <= backoff.initial_ms <= backoff.max_ms:
            raise BadRequest(reason=f"a backoff from {backoff.initial_ms} to {backoff.max_ms} ms is none")
        longest = backoff.max_ms
    if longest > LONGEST_LEASE_MS:
        raise BadRequest(reason=f"a backoff is at most {LONGEST_LEASE_MS:,} ms, not {longest:,}")
