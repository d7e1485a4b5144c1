"""How a run reads a table: decided once by the first holder of one of its shards, the same for every attempt."""

import json
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from executor.errors import BadPlan, DoubleKey, NullKey, UnfitKey
from executor.sharding.cursor import Key
from executor.sharding.source import TableSource


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """Reads `table` by rising `key` up to `upper` (None: it was empty); shard_of(key, total) owns a row."""

    table: str
    key: str
    total: int
    upper: Key | None
    strategy: str = "hash"

    def encode(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> "ScanPlan":
        """Raises BadPlan for one that this version does not understand."""
        try:
            plan = cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise BadPlan(reason=str(error)) from error
        if plan.strategy != "hash":
            raise BadPlan(reason=f"its strategy is {plan.strategy!r}")
        return plan

    def check(self, source: TableSource, total: int) -> None:
        """Raises BadPlan if the call asks for another table, key or number of shards than the run began with."""
        asked = (source.name, source.key.name, total)
        if asked != (self.table, self.key, self.total):
            raise BadPlan(reason=f"it reads {self.table}.{self.key} in {self.total} shards, the call asks for {asked}")


def make_plan(source: TableSource, total: int) -> ScanPlan:
    """Checks that the key names every row once, and fixes the upper bound: what comes later is not of this run.

    Raises UnfitKey, NullKey, DoubleKey or DatabaseUnreachable.
    """
    names = {"table": source.name, "column": source.key.name}
    with source.connect() as connection:
        if source.key.nullable and connection.execute(sa.select(_exists(source, source.key.is_(None)))).scalar_one():
            raise NullKey(**names)
        if not source.is_unique(connection) and _holds_double(connection, source):
            raise DoubleKey(**names)
        upper = connection.execute(sa.select(sa.func.max(source.key))).scalar_one()
    if upper is not None and (isinstance(upper, bool) or not isinstance(upper, int | str)):
        raise UnfitKey(what=f"Column {source.key.name} of {source.name}, which holds {upper!r},")
    return ScanPlan(source.name, source.key.name, total, upper)


def _exists(source: TableSource, condition: sa.ColumnElement[bool]) -> sa.Exists:
    return sa.exists().select_from(source.table).where(condition)


def _holds_double(connection: sa.Connection, source: TableSource) -> bool:
    counts = sa.select(sa.func.count(source.key), sa.func.count(sa.distinct(source.key)))
    every, distinct = connection.execute(counts).one()
    return bool(every != distinct)
