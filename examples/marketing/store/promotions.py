"""Promotions as rows."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from examples.marketing.errors import NotFound, PromotionDiffers, WrongState
from examples.marketing.messages import Phase
from examples.marketing.promotions.model import Promotion, PromotionOrder, Steering
from examples.marketing.promotions.states import State, Verb, step
from examples.marketing.store.tables import coupons, launches, promotion_ids, promotions, users


@dataclass(frozen=True, slots=True)
class Draft:
    """What a save is going to write down: which version, and for users of which ids, none where the range is empty."""

    save_id: str
    promotion_id: int
    version: int
    first_id: int
    last_id: int


def draft(connection: Connection, save_id: str, promotion_id: int | None) -> Draft:
    """Of a new promotion (None), which gets its number here, or of a change. Raises NotFound or WrongState."""
    version = 1
    if promotion_id is None:
        promotion_id = _new_id(connection)
    else:
        found = get(connection, promotion_id)
        if found.state is not State.SAVED:
            raise WrongState(promotion_id=promotion_id, state=found.state.value, verb="change")
        version = found.version + 1
    first, last = select(func.min(users.c.id)).scalar_subquery(), select(func.max(users.c.id)).scalar_subquery()
    first_id, last_id = connection.execute(select(first, last)).one()  # two questions: SQLite scans for both in one
    return Draft(save_id, promotion_id, version, *((0, -1) if first_id is None else (first_id, last_id)))


def keep(
    connection: Connection, drafted: Draft, order: PromotionOrder, *, key: str | None = None, now_ms: int
) -> Promotion:
    """Writes down what was drafted, with its coupon; a new one with the key of its request.

    Raises WrongState if it was changed or launched meanwhile, IntegrityError where the key has one already.
    """
    values = {
        "save_id": drafted.save_id,
        "version": drafted.version,
        "promotion_order": json.loads(order.model_dump_json(by_alias=True)),
        "first_id": drafted.first_id,
        "last_id": drafted.last_id,
        "phase": first_phase(order).value,
        "resumed_at_ms": now_ms,
    }
    if drafted.version == 1:
        request = {"request_key": key, "request_digest": _digest(order) if key else None}
        new = {"id": drafted.promotion_id, "state": State.SAVED.value, "reason": "", **request}
        connection.execute(insert(promotions).values(**new, **values))
    else:
        _change(connection, drafted, values)
    _save_coupon(connection, drafted.promotion_id, order)
    return get(connection, drafted.promotion_id)


def first_phase(order: PromotionOrder) -> Phase:
    return Phase.CANARY if order.steering.canary else Phase.REST


def save(
    connection: Connection, order: PromotionOrder, *, save_id: str, promotion_id: int | None = None, now_ms: int
) -> Promotion:
    """Adds a promotion with its coupon, or changes one that is not launched. Raises NotFound or WrongState."""
    return keep(connection, draft(connection, save_id, promotion_id), order, now_ms=now_ms)


def was_saved(connection: Connection, save_id: str, promotion_id: int, version: int) -> bool:
    """Whether that save was committed: it is the last one, or another one came behind it."""
    row = connection.execute(
        select(promotions.c.save_id, promotions.c.version).where(promotions.c.id == promotion_id)
    ).one_or_none()
    return row is not None and (row.save_id == save_id or row.version > version)


def of_request(connection: Connection, key: str, order: PromotionOrder) -> Promotion | None:
    """What a request with this key led to, as it is now. Raises PromotionDiffers where something else was asked for."""
    row = connection.execute(select(promotions).where(promotions.c.request_key == key)).mappings().one_or_none()
    if row is None:
        return None
    if row["request_digest"] != _digest(order):
        raise PromotionDiffers(key=key, promotion_id=row["id"])
    return _promotion(row)


def get(connection: Connection, promotion_id: int, *, to_change: bool = False) -> Promotion:
    """Raises NotFound. Who is going to change it keeps others from doing so meanwhile."""
    wanted = select(promotions).where(promotions.c.id == promotion_id)
    row = connection.execute(wanted.with_for_update() if to_change else wanted).mappings().one_or_none()
    if row is None:
        raise NotFound(what="promotion", key=promotion_id)
    return _promotion(row)


def find(connection: Connection, ids: Sequence[int]) -> dict[int, Promotion]:
    """Those that there are."""
    rows = connection.execute(select(promotions).where(promotions.c.id.in_(ids))).mappings()
    return {row["id"]: _promotion(row) for row in rows}


def newest(connection: Connection, before: int | None, most: int) -> Sequence[Promotion]:
    """A page of all promotions, the newest first, those with smaller ids than `before`."""
    wanted = select(promotions).order_by(promotions.c.id.desc()).limit(most)
    rows = connection.execute(wanted if before is None else wanted.where(promotions.c.id < before)).mappings()
    return [_promotion(row) for row in rows]


def under_way(connection: Connection) -> Sequence[Promotion]:
    """Those that are launched and not at their end."""
    states = [State.RUNNING.value, State.PAUSED.value, State.HELD.value]
    rows = connection.execute(select(promotions).where(promotions.c.state.in_(states))).mappings()
    return [_promotion(row) for row in rows]


def is_any(connection: Connection, state: State) -> bool:
    """Whether there is one in this state."""
    found = select(promotions.c.id).where(promotions.c.state == state.value).limit(1)
    return connection.execute(found).first() is not None


def move(
    connection: Connection, promotion_id: int, verb: Verb, *, reason: str, now_ms: int, phase: Phase | None = None
) -> Promotion:
    """Changes the state by the table; one that is resumed though its canaries failed goes on to the rest.

    Raises NotFound or WrongState.
    """
    found = get(connection, promotion_id)
    state = step(promotion_id, found.state, verb)
    if (found.state, verb) == (State.HELD, Verb.RESUME):
        phase = Phase.REST
    values: dict[str, object] = {"state": state.value, "reason": reason}
    if phase is not None:
        values["phase"] = phase.value
    if state is State.RUNNING:
        values |= {"resumed_at_ms": now_ms, "ended_at_ms": None}
    if verb is Verb.LAUNCH and found.launched_at_ms is None:
        values["launched_at_ms"] = now_ms
    if state.is_final:
        values["ended_at_ms"] = now_ms
    where = (promotions.c.id == promotion_id) & (promotions.c.state == found.state.value)
    if connection.execute(update(promotions).where(where).values(**values)).rowcount != 1:
        raise WrongState(promotion_id=promotion_id, state="being changed by somebody else", verb=verb.value)
    return get(connection, promotion_id)


def go_to_rest(connection: Connection, promotion_id: int) -> None:
    """From the canaries to all the others; nothing where it does not run, or is there already."""
    where = (promotions.c.id == promotion_id) & (promotions.c.state == State.RUNNING.value)
    connection.execute(update(promotions).where(where).values(phase=Phase.REST.value))


def steer(connection: Connection, promotion_id: int, steering: Steering) -> Promotion:
    """Takes effect within a second. Raises NotFound, or WrongState once it has ended."""
    found = get(connection, promotion_id)
    if found.state.is_final:
        raise WrongState(promotion_id=promotion_id, state=found.state.value, verb="steer")
    order = found.order.model_copy(update={"steering": steering})
    values = {"promotion_order": json.loads(order.model_dump_json(by_alias=True))}
    connection.execute(update(promotions).where(promotions.c.id == promotion_id).values(**values))
    return get(connection, promotion_id)


def of_origin(connection: Connection, origin: str, order: PromotionOrder, *, now_ms: int) -> Promotion:
    """The promotion that a job makes of itself: once, whichever of its shards comes first, and running at once."""
    if (known := with_origin(connection, origin)) is None:
        try:
            with connection.begin_nested():
                saved = save(connection, order, save_id=origin[:32], now_ms=now_ms)
                connection.execute(update(promotions).where(promotions.c.id == saved.id).values(origin=origin))
                return move(connection, saved.id, Verb.LAUNCH, reason="", now_ms=now_ms)
        except IntegrityError:
            known = with_origin(connection, origin)
    if known is None:
        raise NotFound(what="promotion of", key=origin)
    return known


def with_origin(connection: Connection, origin: str) -> Promotion | None:
    """The one that the job has made already."""
    row = connection.execute(select(promotions).where(promotions.c.origin == origin)).mappings().one_or_none()
    return None if row is None else _promotion(row)


def claim_launch(connection: Connection, promotion_id: int, phase: Phase, event_id: str) -> bool:
    """Whether this event is the one that launches the phase: the first, also when it comes again."""
    where = (launches.c.promotion_id == promotion_id) & (launches.c.phase == phase.value)
    known = connection.execute(select(launches.c.event_id).where(where)).scalar_one_or_none()
    if known is None:
        connection.execute(
            insert(launches).values(promotion_id=promotion_id, phase=phase.value, event_id=event_id, run_id=None)
        )
    return known in (None, event_id)


def _save_coupon(connection: Connection, promotion_id: int, order: PromotionOrder) -> None:
    where = coupons.c.promotion_id == promotion_id
    if (coupon := order.coupon) is None:
        connection.execute(delete(coupons).where(where))
        return
    values = {
        "name": coupon.name,
        "value_cents": coupon.value_cents,
        "stock": coupon.stock,
        "remaining": coupon.stock,  # nobody has one before the launch
        "is_lazy": int(coupon.is_lazy),
        "expires_at_ms": round(coupon.expires_at.timestamp() * 1000),
    }
    if connection.execute(update(coupons).where(where).values(**values)).rowcount == 0:
        connection.execute(insert(coupons).values(promotion_id=promotion_id, **values))


def _digest(order: PromotionOrder) -> str:
    return hashlib.sha256(order.model_dump_json().encode()).hexdigest()


def _change(connection: Connection, drafted: Draft, values: dict[str, Any]) -> None:
    is_as_drafted = (promotions.c.version == drafted.version - 1) & (promotions.c.state == State.SAVED.value)
    where = (promotions.c.id == drafted.promotion_id) & is_as_drafted
    if connection.execute(update(promotions).where(where).values(**values)).rowcount != 1:
        state = "being changed by somebody else"
        raise WrongState(promotion_id=drafted.promotion_id, state=state, verb="change")


def _new_id(connection: Connection) -> int:
    key = connection.execute(insert(promotion_ids)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _promotion(row: RowMapping) -> Promotion:
    return Promotion(
        id=row["id"],
        version=row["version"],
        order=PromotionOrder.model_validate(row["promotion_order"]),
        state=State(row["state"]),
        phase=Phase(row["phase"]),
        first_id=row["first_id"],
        last_id=row["last_id"],
        reason=row["reason"],
        resumed_at_ms=row["resumed_at_ms"],
        launched_at_ms=row["launched_at_ms"],
        ended_at_ms=row["ended_at_ms"],
        audience_size=row["audience_size"],
    )
