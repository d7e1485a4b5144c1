"""What gRPC hands to every call."""

from typing import Any, TypeAlias

import grpc.aio

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

ANSWER_SECONDS = 0.2  # of a caller's deadline, kept back for the way of an empty answer


def waits(time_remaining: float | None) -> float | None:
    """How long an answer may take so that it still reaches its caller; None: as long as it likes."""
    return None if time_remaining is None else time_remaining - ANSWER_SECONDS
