"""Which runs do the fan-out of promotions' phases."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Connection, select, update

from examples.marketing.messages import Phase
from examples.marketing.store.tables import launches


def is_launched(connection: Connection, promotion_id: int, phase: Phase) -> bool:
    return connection.execute(select(launches.c.event_id).where(_of(promotion_id, phase))).first() is not None


def run_of(connection: Connection, promotion_id: int, phase: Phase) -> str | None:
    """The id of the run, once it is known."""
    return connection.execute(select(launches.c.run_id).where(_of(promotion_id, phase))).scalar_one_or_none()


def claim_run(connection: Connection, promotion_id: int, phase: str, run_id: str) -> str | None:
    """The run that does it: this one, unless another one was there before; None: it is not launched.

    The phase may be a resend, too, see resends.phase_of.
    """
    where = _of(promotion_id, phase)
    connection.execute(update(launches).where(where, launches.c.run_id.is_(None)).values(run_id=run_id))
    return connection.execute(select(launches.c.run_id).where(where)).scalar_one_or_none()


def unsent(connection: Connection, promotion_id: int) -> Sequence[str]:
    """The runs that send for a promotion and are not known to have succeeded, resends included."""
    where = (launches.c.promotion_id == promotion_id) & (launches.c.is_sent == 0)
    return connection.execute(select(launches.c.run_id).where(where, launches.c.run_id.is_not(None))).scalars().all()


def note_sent(connection: Connection, run_ids: Collection[str]) -> None:
    """That they have succeeded: the admin forgets runs that ended long ago."""
    connection.execute(update(launches).where(launches.c.run_id.in_(run_ids)).values(is_sent=1))


def _of(promotion_id: int, phase: str) -> ColumnElement[bool]:
    return (launches.c.promotion_id == promotion_id) & (launches.c.phase == phase)
