"""How far promotions are: counts by source, each of which counts a message once, however often it comes.

A source is a queue, counted up to an offset, or a shard of a run, counted up to a row.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from sqlalchemy import ColumnElement, Connection, and_, func, insert, select, update

from examples.marketing.messages import Phase
from examples.marketing.store.tables import progress


@dataclass(frozen=True, slots=True)
class Counts:
    """`covered` are ids of users that the fan-out by buckets has come past, `published` messages that it led to. Each
    of those is delivered, dropped (its promotion was cancelled), capped or failed in the end."""

    covered: int = 0
    published: int = 0
    delivered: int = 0
    dropped: int = 0
    capped: int = 0
    failed: int = 0

    @property
    def handled(self) -> int:
        return self.delivered + self.dropped + self.capped + self.failed


@dataclass(frozen=True, slots=True)
class Source:
    """`name` is "<topic>/<queue>" or "<run>/<shard>"."""

    promotion_id: int
    phase: Phase
    name: str


_NAMES = tuple(field.name for field in fields(Counts))


def add(connection: Connection, source: Source, span: range, counts: Counts) -> None:
    """Counts what came of the source's entries in `span`, unless they are counted already."""
    where = _is(source)
    grown = {name: progress.c[name] + getattr(counts, name) for name in _NAMES}
    changed = connection.execute(
        update(progress).where(where, progress.c.upto <= span.start).values(upto=span.stop, **grown)
    )
    if changed.rowcount == 0 and connection.execute(select(progress.c.upto).where(where)).first() is None:
        _insert(connection, source, span.stop, counts)


def set_published(connection: Connection, source: Source, published: int) -> None:
    """Of a source that is asked how much it has published so far: the number replaces the one before."""
    where = _is(source)
    changed = connection.execute(
        update(progress).where(where, progress.c.upto < published).values(upto=published, published=published)
    )
    if changed.rowcount == 0 and connection.execute(select(progress.c.upto).where(where)).first() is None:
        _insert(connection, source, published, Counts(published=published))


def of(connection: Connection, promotion_id: int) -> Mapping[Phase, Counts]:
    """Summed over all sources."""
    sums = [func.coalesce(func.sum(progress.c[name]), 0) for name in _NAMES]
    rows = connection.execute(
        select(progress.c.phase, *sums).where(progress.c.promotion_id == promotion_id).group_by(progress.c.phase)
    )
    found = {Phase(row[0]): Counts(*map(int, row[1:])) for row in rows}
    return {phase: found.get(phase, Counts()) for phase in Phase}


def _is(source: Source) -> ColumnElement[bool]:
    return and_(
        progress.c.promotion_id == source.promotion_id,
        progress.c.phase == source.phase.value,
        progress.c.source == source.name,
    )


def _insert(connection: Connection, source: Source, upto: int, counts: Counts) -> None:
    at = {"promotion_id": source.promotion_id, "phase": source.phase.value, "source": source.name}
    connection.execute(insert(progress).values(**at, upto=upto, **asdict(counts)))
