"""Users as rows."""

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from examples.marketing.errors import NotFound
from examples.marketing.store.tables import users


def check(connection: Connection, user_id: int) -> None:
    """Raises NotFound where there is no such user."""
    if connection.execute(select(users.c.id).where(users.c.id == user_id)).first() is None:
        raise NotFound(what="user", key=user_id)


def ids_between(connection: Connection, first_id: int, last_id: int) -> Sequence[int]:
    """By rising id, both ends included: one page."""
    asked = select(users.c.id).where(users.c.id.between(first_id, last_id)).order_by(users.c.id)
    return connection.execute(asked).scalars().all()


def extent(connection: Connection, first_id: int, last_id: int) -> tuple[int, int] | None:
    """The least and the greatest id between the two, both included; None: there is nobody."""
    within = users.c.id.between(first_id, last_id)
    least = connection.execute(select(func.min(users.c.id)).where(within)).scalar_one()
    if least is None:
        return None
    return least, connection.execute(select(func.max(users.c.id)).where(within)).scalar_one()
