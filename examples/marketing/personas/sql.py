"""Conditions as SQL. Every part is true or false, never null, so that `not` means what it says."""

from datetime import UTC, datetime, timedelta
from typing import assert_never

from sqlalchemy import BigInteger, ColumnElement, and_, func, literal, not_, or_, select

from examples.marketing.errors import BadRequest
from examples.marketing.personas.conditions import (
    AllOf,
    Among,
    AnyOf,
    Condition,
    LastOrder,
    NotOf,
    Span,
    Tags,
    check_size,
)
from examples.marketing.store.tables import user_tags, users


def matches(condition: Condition, now: datetime) -> ColumnElement[bool]:
    """Whether a row of `users` is meant. Days of last orders are days in UTC. Raises BadRequest if it is too large."""
    try:
        check_size(condition)
    except ValueError as error:
        raise BadRequest(reason=f"{error}.") from error
    return _where(condition, now)


def _where(condition: Condition, now: datetime) -> ColumnElement[bool]:
    match condition:
        case AllOf():
            return and_(*(_where(part, now) for part in condition.all))
        case AnyOf():
            return or_(*(_where(part, now) for part in condition.any))
        case NotOf():
            return not_(_where(condition.not_, now))
        case Span():
            return _in_span(condition)
        case Among():
            return users.c[condition.field].in_(condition.among)
        case Tags():
            return _has_tags(condition)
        case LastOrder():
            return _has_ordered(condition, now)
        case _:
            assert_never(condition)


def _in_span(span: Span) -> ColumnElement[bool]:
    column = users.c[span.field]
    least = [column >= literal(span.least, BigInteger)] if span.least is not None else []  # of any column's range
    most = [column <= literal(span.most, BigInteger)] if span.most is not None else []
    return and_(*least, *most)


def _has_tags(tags: Tags) -> ColumnElement[bool]:
    """A tag is there once at most: who has all of them has as many of them."""
    wanted = set(tags.any_of or tags.all_of or ())
    found = (user_tags.c.user_id == users.c.id) & user_tags.c.tag.in_(wanted)
    if tags.any_of is not None:
        return select(user_tags.c.tag).where(found).correlate(users).exists()
    counted = select(func.count()).select_from(user_tags).where(found).correlate(users)
    return counted.scalar_subquery() == len(wanted)


def _has_ordered(last: LastOrder, now: datetime) -> ColumnElement[bool]:
    column = users.c.last_order_on
    since = now.astimezone(UTC) - (last.within or last.not_within or timedelta(0))
    if last.within is not None:
        return and_(column.is_not(None), column >= since.date())
    return or_(column.is_(None), column < since.date())
