"""Leases and dead letters."""

from collections.abc import Iterable

from broker.delivery.leases.settling import Action, Settlement
from broker.errors import BadRequest, LeaseExpired
from broker.face.consuming.dead_letters import GivenUp, WantedResend
from broker.face.consuming.leasing import LeasedBatch, WantedLease
from broker.model import ERROR_BYTES, LONGEST_LEASE_MS, GroupName, LogId, MemberId, TopicName
from broker.rpc.convert.groups import to_claim, to_start
from broker.rpc.convert.reading import collapse, from_attributes
from protos.broker.v1 import broker_pb2 as pb

_LEASED_MESSAGES = 32
_MOST_LEASED_MESSAGES = 1_024
_LEASE_MS = 30_000
_LEASES_MS = range(1_000, LONGEST_LEASE_MS + 1)
_LONGEST_WAIT_MS = 30_000
_RESENT_MESSAGES = 1_000
_ACTIONS = {
    pb.ACTION_ACKNOWLEDGE: Action.ACKNOWLEDGE,
    pb.ACTION_RETRY: Action.RETRY,
    pb.ACTION_EXTEND: Action.EXTEND,
    pb.ACTION_GIVE_UP: Action.GIVE_UP,
    pb.ACTION_RETURN: Action.GIVE_BACK,
}


def to_wanted_lease(request: pb.LeaseRequest, seconds_left: float | None) -> WantedLease:
    """`seconds_left` is how long the caller itself still waits for the answer. Raises BadRequest."""
    lease_ms = request.lease_ms or _LEASE_MS
    if lease_ms not in _LEASES_MS:
        raise BadRequest(reason=f"a lease is 1,000 to {LONGEST_LEASE_MS:,} ms, not {lease_ms}")
    if request.max_messages > _MOST_LEASED_MESSAGES:
        raise BadRequest(reason=f"a lease has at most {_MOST_LEASED_MESSAGES} messages, not {request.max_messages}")
    wait_seconds = min(request.wait_ms, _LONGEST_WAIT_MS) / 1_000
    return WantedLease(
        GroupName(request.group),
        to_member(request.member_id),
        TopicName(request.topic),
        request.max_messages or _LEASED_MESSAGES,
        lease_ms,
        wait_seconds if seconds_left is None else max(0.0, min(wait_seconds, seconds_left)),
        frozenset(map(str.encode, request.tags)),
        to_start(request.start, request.start_at_ms),
    )


def to_member(member_id: str) -> MemberId:
    """Raises BadRequest."""
    if not 1 <= len(member_id) <= 255:
        raise BadRequest(reason="a member id has 1 to 255 characters")
    return MemberId(member_id)


def from_leased(batch: LeasedBatch, log_id: LogId) -> pb.LeaseResponse:
    messages = pb.LeasedMessages(
        queues=batch.queues,
        offsets=batch.offsets,
        attempts=batch.attempts,
        bodies=batch.bodies,
        keys=map(bytes.decode, batch.keys),
        tags=map(bytes.decode, collapse(batch.tags)),
        attributes=from_attributes(batch.attributes),
        published_at_ms=batch.published_at_ms,
    )
    return pb.LeaseResponse(
        messages=messages, expires_at_ms=batch.expires_at_ms, log_id=log_id, topic_id=batch.topic_id
    )


def to_settlement(given: pb.Settlement) -> Settlement:
    """Raises BadRequest."""
    action = _ACTIONS.get(given.action)
    if action is None:
        raise BadRequest(reason=f"{given.action} is no action of a settlement")
    if len(given.offsets) != len(given.attempts):
        raise BadRequest(reason=f"{len(given.attempts)} attempts for {len(given.offsets)} offsets")
    if given.after_ms > LONGEST_LEASE_MS:
        raise BadRequest(reason=f"after is at most {LONGEST_LEASE_MS} ms, not {given.after_ms}")
    if action is Action.EXTEND and not given.after_ms:
        raise BadRequest(reason="an extension needs after_ms")
    after_ms = given.after_ms if given.HasField("after_ms") else None
    return Settlement(given.queue, [*given.offsets], [*given.attempts], action, after_ms, cut(given.error))


def cut(error: str) -> str:
    """As much of it as is kept with a dead letter."""
    return error.encode()[:ERROR_BYTES].decode(errors="ignore")


def from_refused(refused: Iterable[LeaseExpired]) -> pb.SettleResponse:
    return pb.SettleResponse(
        refused=(
            pb.RefusedSettlement(
                queue=int(str(error.fields["queue"])),
                offset=int(str(error.fields["offset"])),
                refusal=pb.Refusal(
                    code=error.code,
                    message=str(error),
                    fields={name: str(value) for name, value in error.fields.items()},
                ),
            )
            for error in refused
        )
    )


def to_given_up(request: pb.GiveUpRequest) -> GivenUp:
    """Raises BadRequest."""
    return GivenUp(
        GroupName(request.group),
        to_member(request.member_id),
        to_claim(request.claim),
        [*request.offsets],
        request.attempts,
        cut(request.error),
    )


def to_wanted_resend(request: pb.ResendDeadLettersRequest) -> WantedResend:
    """Raises BadRequest."""
    if not request.messages_per_second >= 0:
        raise BadRequest(reason=f"a rate is 0 or more, not {request.messages_per_second}")
    return WantedResend(
        GroupName(request.group),
        [*request.offsets],
        request.first_offset,
        request.before_offset,
        request.max_messages or _RESENT_MESSAGES,
        request.messages_per_second,
    )
