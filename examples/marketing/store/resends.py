"""Failures as rows, and the resends that take them: remembered among the launches, at first without a run."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, RowMapping, func, insert, select, update

from examples.marketing.messages import Phase
from examples.marketing.store import progress
from examples.marketing.store.progress import Counts, Source
from examples.marketing.store.tables import failures, launches

_PREFIX = "resend-"


def page(connection: Connection, promotion_id: int, after: int | None, most: int) -> Sequence[RowMapping]:
    """Failures of a promotion in the order of users."""
    wanted = select(failures).where(failures.c.promotion_id == promotion_id).order_by(failures.c.user_id).limit(most)
    return connection.execute(wanted if after is None else wanted.where(failures.c.user_id > after)).mappings().all()


def unstarted(connection: Connection, promotion_id: int) -> int | None:
    """The number of a resend that took failures and whose run is not known to be started."""
    name = connection.execute(
        select(launches.c.phase).where(_of(promotion_id), launches.c.run_id.is_(None)).limit(1)
    ).scalar_one_or_none()
    return None if name is None else int(name.removeprefix(_PREFIX))


def take(connection: Connection, promotion_id: int) -> int | None:
    """Takes all failures that no resend has taken; its number, None where there are none.

    They count as published again, so that the promotion is not complete before they have come to an end.
    """
    number = 1 + connection.execute(select(func.count()).where(_of(promotion_id))).scalar_one()
    where = (failures.c.promotion_id == promotion_id) & (failures.c.resend == 0)
    taken = connection.execute(update(failures).where(where).values(resend=number)).rowcount
    if taken == 0:
        return None
    connection.execute(
        insert(launches).values(promotion_id=promotion_id, phase=phase_of(number), event_id="", run_id=None)
    )
    source = Source(promotion_id, Phase.REST, f"resend/{number}")
    progress.add(connection, source, range(taken), Counts(published=taken))
    return number


def phase_of(number: int) -> str:
    """Under which name a resend stands among the launches."""
    return f"{_PREFIX}{number}"


def _of(promotion_id: int) -> ColumnElement[bool]:
    return (launches.c.promotion_id == promotion_id) & launches.c.phase.startswith(_PREFIX)
