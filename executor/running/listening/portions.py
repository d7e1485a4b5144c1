"""Messages of a queue that go into one call, and what becomes of them behind a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from broker.client.message import Batch
from broker.model import GroupPolicy
from executor.running.listening.verdicts import (
    Again,
    Done,
    Failed,
    Messages,
    Partly,
    Verdict,
    halves,
    is_narrowed,
)


@dataclass(slots=True)  # not frozen: where calls take one message each, making these is what costs
class Portion:
    """Messages that follow each other; they are called with unless there is a verdict on them already."""

    batch: Batch
    messages: Messages
    attempt: int = 1
    wait_seconds: float | None = None  # before the call; None: it follows the one before
    verdict: Verdict | None = None

    @property
    def begin(self) -> int:
        """The offset of its first message."""
        return self.messages[0].offset

    @property
    def end(self) -> int:
        """The offset behind its last message."""
        return self.messages[-1].offset + 1


def split(portion: Portion, verdict: Verdict) -> Sequence[Portion]:
    """What a portion falls into under a verdict that is not the same for all of its messages; nothing: it is."""
    messages, batch = portion.messages, portion.batch
    if is_narrowed(messages, verdict):
        return [Portion(batch, half, portion.attempt) for half in halves(messages)]
    if not isinstance(verdict, Partly):
        return ()
    done, rest = messages[: verdict.count], messages[verdict.count :]
    attempt = 1 if done else portion.attempt
    left = Portion(batch, _numbered(rest, attempt), attempt, verdict.after.total_seconds())
    return [Portion(batch, done, verdict=Done(verdict.publish)), left] if done else [left]


def next_attempt(portion: Portion, verdict: Failed | Again, policy: GroupPolicy) -> Portion | None:
    """None: there is none left."""
    if portion.attempt >= policy.attempts:
        return None
    seconds = policy.backoff.wait_ms(portion.attempt) / 1000
    if isinstance(verdict, Again) and verdict.after is not None:
        seconds = verdict.after.total_seconds()
    attempt = portion.attempt + 1
    return Portion(portion.batch, _numbered(portion.messages, attempt), attempt, seconds)


def _numbered(messages: Messages, attempt: int) -> Messages:
    return [each if each.attempt == attempt else replace(each, attempt=attempt) for each in messages]
