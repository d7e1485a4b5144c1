"""What a call changed of a group, as JSON: only that is stored, and done again at recovery."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypedDict

from broker.groups.membership import Group, Member, Owned
from broker.model import (
    Edge,
    Exponential,
    GroupPolicy,
    MemberId,
    Mode,
    Since,
    Start,
    Steps,
    TopicName,
    TopicQueue,
)

_Queue: TypeAlias = tuple[str, int, str | None, int, int]
"""Topic, queue, owner, generation, offset."""
_Member: TypeAlias = tuple[str, list[str], float, "str | int"]
"""Member id, topics, session in seconds, start: an edge or milliseconds since the epoch."""


class Change(TypedDict, total=False):
    """Of one group; absent: as it was."""

    name: str
    mode: str | None
    policy: dict[str, Any]
    last_member_at_ms: int
    past_generation: int
    members: Sequence[_Member]
    queues: Sequence[_Queue]
    gone: Sequence[tuple[str, int]]


class Stored(TypedDict, total=False):
    """A frame: what one group became, or a deleted group, or a topic that went."""

    change: Change
    deleted: str
    forgotten: str


def encode(stored: Stored) -> bytes:
    return json.dumps(stored, separators=(",", ":")).encode()


def decode(data: bytes) -> Stored:
    """The inverse of `encode`."""
    stored: Stored = json.loads(data)
    return stored


def change_between(before: Group, after: Group) -> Change:
    """Of two states of a group what outlives a restart; that a member is alive for longer does not."""
    change: Change = {"name": after.name}
    if after.mode != before.mode:
        change["mode"] = after.mode
    if after.policy != before.policy:
        change["policy"] = _store_policy(after.policy)
    if after.last_member_at_ms != before.last_member_at_ms:
        change["last_member_at_ms"] = after.last_member_at_ms
    if after.past_generation != before.past_generation:
        change["past_generation"] = after.past_generation
    members = [_store_member(*known) for known in after.members.items()]
    if members != [_store_member(*known) for known in before.members.items()]:
        change["members"] = members
    queues = [
        (*at, owned.owner, owned.generation, owned.offset)
        for at, owned in after.queues.items()
        if (known := before.queues.get(at)) is not owned and known != owned
    ]
    if queues:
        change["queues"] = queues
    if gone := [(*at,) for at in before.queues.keys() - after.queues.keys()]:
        change["gone"] = gone
    return change


def is_nothing(change: Change) -> bool:
    """Whether nothing but the group's name stands there."""
    return len(change) == 1


def applied(group: Group, change: Change) -> Group:
    """The group after the change; members are alive for one session timeout from the moment the clock began."""
    if "mode" in change:
        group = replace(group, mode=Mode(change["mode"]) if change["mode"] else None)
    if "policy" in change:
        group = replace(group, policy=_restore_policy(change["policy"]))
    if "last_member_at_ms" in change:
        group = replace(group, last_member_at_ms=change["last_member_at_ms"])
    if "past_generation" in change:
        group = replace(group, past_generation=change["past_generation"])
    if "members" in change:
        group = replace(group, members=dict(map(_restore_member, change["members"])))
    gone = {TopicQueue(TopicName(topic), queue) for topic, queue in change.get("gone", ())}
    if gone:
        group = replace(group, queues={at: owned for at, owned in group.queues.items() if at not in gone})
    return group.with_queues(dict(map(_restore_queue, change.get("queues", ()))))


def _restore_queue(stored: _Queue) -> tuple[TopicQueue, Owned]:
    topic, queue, owner, generation, offset = stored
    return TopicQueue(TopicName(topic), queue), Owned(
        MemberId(owner) if owner is not None else None, generation, offset
    )


def _store_member(member_id: MemberId, member: Member) -> _Member:
    start = member.start.at_ms if isinstance(member.start, Since) else member.start.value
    return member_id, sorted(member.topics), member.session_seconds, start


def _restore_member(stored: _Member) -> tuple[MemberId, Member]:
    member_id, topics, session_seconds, stored_start = stored
    start: Start = Since(stored_start) if isinstance(stored_start, int) else Edge(stored_start)
    return MemberId(member_id), Member(frozenset(map(TopicName, topics)), session_seconds, session_seconds, start)


def _store_policy(policy: GroupPolicy) -> dict[str, Any]:
    backoff = policy.backoff
    steps = [*backoff.waits_ms] if isinstance(backoff, Steps) else None
    exponential = None if isinstance(backoff, Steps) else [backoff.initial_ms, backoff.max_ms, backoff.multiplier]
    return {
        "attempts": policy.attempts,
        "steps": steps,
        "exponential": exponential,
        "messages_per_second": policy.messages_per_second,
        "most_leased": policy.most_leased,
    }


def _restore_policy(stored: dict[str, Any]) -> GroupPolicy:
    steps, exponential = stored["steps"], stored["exponential"]
    backoff = Exponential(*exponential) if exponential else Steps(tuple(steps))
    return GroupPolicy(stored["attempts"], backoff, stored["messages_per_second"], stored["most_leased"])
