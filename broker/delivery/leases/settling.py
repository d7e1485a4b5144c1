"""What becomes of leased messages by the word of the member that has them."""

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

from broker.delivery.leases.state import NO_MEMBER, Change, Held, Leases, Move, State, step
from broker.model import GroupPolicy, MemberId

RAN_OUT = "its last lease ran out"


class Action(enum.StrEnum):
    """What a member says of a message."""

    ACKNOWLEDGE = enum.auto()
    RETRY = enum.auto()
    EXTEND = enum.auto()
    GIVE_BACK = enum.auto()
    GIVE_UP = enum.auto()


@dataclass(frozen=True, slots=True)
class Settlement:
    """Messages of one queue that go the same way; offset and attempt together name one handing out.

    `after_ms` is from now on: of a retry instead of the backoff, of an extension how long it is kept.
    """

    queue: int
    offsets: Sequence[int]
    attempts: Sequence[int]
    action: Action
    after_ms: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Dead:
    """A message that is given up."""

    offset: int
    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What the settlements change, besides what is given up and so done.

    `refused` are (offset, attempt) that are not leased to the member (any more).
    """

    change: Change
    dead: Sequence[Dead]
    refused: Sequence[tuple[int, int]]


def settle(
    leases: Leases, member: MemberId, settlements: Iterable[Settlement], policy: GroupPolicy, now_ms: int
) -> Settled:
    """Of settlements of one queue, each message once: the first word counts, another is refused."""
    done, kept, dead, refused = list[int](), dict[int, Held](), list[Dead](), list[tuple[int, int]]()
    heard = set[int]()
    for settlement in settlements:
        for offset, attempt in zip(settlement.offsets, settlement.attempts, strict=True):
            held = leases.held.get(offset)
            if held is None or held.attempt != attempt or not held.is_with(member, now_ms) or offset in heard:
                refused.append((offset, attempt))
                continue
            heard.add(offset)
            after = _after(held, settlement, policy, now_ms)
            if isinstance(after, Held):
                kept[offset] = after
            elif after is State.DONE:
                done.append(offset)
            else:
                dead.append(Dead(offset, held.failures, settlement.error or held.error))
    return Settled(Change(leases.next, done, kept), dead, refused)


def spent(leases: Leases, attempts: int, now_ms: int) -> Iterator[Dead]:
    """What is given up although no member says so: nobody settled it in time, or the group has fewer attempts now."""
    for offset in leases.spent(attempts, now_ms):
        held = leases.held[offset]
        step(held.state, Move.GIVE_UP)
        yield Dead(offset, held.failures, held.error or RAN_OUT)


def given_back(leases: Leases, member: MemberId, now_ms: int) -> Change:
    """All that the member has goes back, as if it said so of each message."""
    held = {offset: _given_back(held, now_ms) for offset, held in leases.held.items() if held.is_with(member, now_ms)}
    return Change(leases.next, (), held)


def _given_back(held: Held, now_ms: int) -> Held:
    step(held.state, Move.GIVE_BACK)
    return held._replace(until_ms=now_ms, member=NO_MEMBER, spared=held.spared + 1)


def _after(held: Held, settlement: Settlement, policy: GroupPolicy, now_ms: int) -> Held | State:
    """The message as it is kept, or the state in which it ends."""
    match settlement.action:
        case Action.ACKNOWLEDGE:
            return step(held.state, Move.ACKNOWLEDGE)
        case Action.GIVE_UP:
            return step(held.state, Move.GIVE_UP)
        case Action.RETRY:
            return _retried(held, settlement, policy, now_ms)
        case Action.EXTEND:
            step(held.state, Move.EXTEND)
            return held._replace(until_ms=now_ms + (settlement.after_ms or 0))
        case Action.GIVE_BACK:
            return _given_back(held, now_ms)
        case _:
            assert_never(settlement.action)


def _retried(held: Held, settlement: Settlement, policy: GroupPolicy, now_ms: int) -> Held | State:
    if held.failures >= policy.attempts:
        return step(held.state, Move.GIVE_UP)
    step(held.state, Move.RETRY)
    after_ms = settlement.after_ms
    wait = policy.backoff.wait_ms(held.failures) if after_ms is None else after_ms
    return held._replace(until_ms=now_ms + wait, member=NO_MEMBER, error=settlement.error or held.error)
