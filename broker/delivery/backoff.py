"""How long a message waits for its next attempt."""

from typing import assert_never

from broker.model import Exponential, Steps


def wait_ms(backoff: Steps | Exponential, attempt: int) -> int:
    """The wait behind this attempt, which failed; the first is 1."""
    match backoff:
        case Steps(waits_ms):
            return waits_ms[min(attempt, len(waits_ms)) - 1]
        case Exponential(initial_ms, max_ms, multiplier):
            return _grown(initial_ms, max_ms, multiplier, attempt - 1)
        case _:
            assert_never(backoff)


def _grown(initial_ms: int, max_ms: int, multiplier: float, times: int) -> int:
    wait = float(initial_ms)
    for _ in range(times):
        if wait >= max_ms or multiplier <= 1:
            break
        wait *= multiplier
    return min(int(wait), max_ms)
