"""Which runs do the fan-out of promotions' phases."""

from sqlalchemy import ColumnElement, Connection, select, update

from examples.marketing.messages import Phase
from examples.marketing.store.tables import launches


def is_launched(connection: Connection, promotion_id: int, phase: Phase) -> bool:
    return connection.execute(select(launches.c.event_id).where(_of(promotion_id, phase))).first() is not None


def run_of(connection: Connection, promotion_id: int, phase: Phase) -> str | None:
    """The id of the run, once it is known."""
    return connection.execute(select(launches.c.run_id).where(_of(promotion_id, phase))).scalar_one_or_none()


def remember_run(connection: Connection, promotion_id: int, phase: Phase, run_id: str) -> None:
    connection.execute(update(launches).where(_of(promotion_id, phase)).values(run_id=run_id))


def _of(promotion_id: int, phase: Phase) -> ColumnElement[bool]:
    return (launches.c.promotion_id == promotion_id) & (launches.c.phase == phase.value)
