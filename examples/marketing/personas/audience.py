"""Who is meant by a condition: how many, the first few, all of them in the order of their ids, and written down."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import Connection, RowMapping, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from examples.marketing.errors import NotFound
from examples.marketing.personas.conditions import Condition
from examples.marketing.personas.sql import matches
from examples.marketing.store.database import Database
from examples.marketing.store.tables import audience_members, promotions, users

PAGE = 1_000


def count(connection: Connection, condition: Condition, now: datetime) -> int:
    return connection.execute(select(func.count()).select_from(users).where(matches(condition, now))).scalar_one()


def is_nobody(connection: Connection, condition: Condition | None, now: datetime) -> bool:
    """Looks no further than the first who is meant; None means everybody."""
    meant = select(users.c.id) if condition is None else select(users.c.id).where(matches(condition, now))
    return not connection.execute(select(exists(meant))).scalar_one()


def preview(connection: Connection, condition: Condition, now: datetime, most: int) -> Sequence[RowMapping]:
    """The first few rows of users, by id."""
    found = select(users).where(matches(condition, now)).order_by(users.c.id).limit(most)
    return connection.execute(found).mappings().all()


def stream(database: Database, condition: Condition, now: datetime) -> Iterator[int]:
    """All ids in order, a page of 1,000 in memory at a time; each page is read in a transaction of its own."""
    after = None
    while page := _page(database, condition, now, after):
        yield from page
        after = page[-1]


def freeze(database: Database, promotion_id: int, condition: Condition, now: datetime) -> int:
    """Writes down who is meant, 1,000 to a short transaction, and returns how many they are.

    May be called again: it goes on behind those who are written down already, and once all are it changes nothing,
    whatever has become of the users since. Raises NotFound.
    """
    while (size := _frozen_size(database, promotion_id)) is None:
        page = _page(database, condition, now, _last_member(database, promotion_id))
        if _is_written(database, promotion_id, page) and len(page) < PAGE:
            _finish(database, promotion_id)
    return size


def _page(database: Database, condition: Condition, now: datetime, after: int | None) -> Sequence[int]:
    """Read before they are written, so that a condition that few meet holds up no writer while it looks for them."""
    behind = select(users.c.id).where(matches(condition, now)).order_by(users.c.id).limit(PAGE)
    with database.reading() as connection:
        found = behind if after is None else behind.where(users.c.id > after)
        return connection.execute(found).scalars().all()


def _frozen_size(database: Database, promotion_id: int) -> int | None:
    with database.reading() as connection:
        size = select(promotions.c.audience_size).where(promotions.c.id == promotion_id)
        row = connection.execute(size).one_or_none()
    if row is None:
        raise NotFound(what="promotion", key=promotion_id)
    known: int | None = row.audience_size
    return known


def _last_member(database: Database, promotion_id: int) -> int | None:
    last = select(func.max(audience_members.c.user_id)).where(audience_members.c.promotion_id == promotion_id)
    with database.reading() as connection:
        last_id: int | None = connection.execute(last).scalar_one()
    return last_id


def _is_written(database: Database, promotion_id: int, page: Sequence[int]) -> bool:
    """False: somebody else writes them down too and was quicker."""
    if not page:
        return True
    members = [{"promotion_id": promotion_id, "user_id": user_id} for user_id in page]
    try:
        with database.writing() as connection:
            connection.execute(insert(audience_members), members)
    except IntegrityError:
        return False
    return True


def _finish(database: Database, promotion_id: int) -> None:
    members = select(func.count()).where(audience_members.c.promotion_id == promotion_id)
    with database.reading() as connection:
        size = connection.execute(members).scalar_one()
    with database.writing() as connection:
        connection.execute(update(promotions).where(promotions.c.id == promotion_id).values(audience_size=size))
