"""Makes a scan's plan: checks that the key tells the rows apart, fixes where the scan ends, and cuts ranges."""

import sqlalchemy as sa

from executor.errors import DoubleKey, NullKey, UnfitBucket, UnfitKey
from executor.sharding.keys import is_key, key_of
from executor.sharding.plan import STRATEGIES, Asked, Bucket, ScanPlan, Strategy
from executor.sharding.quantiles import bounds, walk
from executor.sharding.stretches import Stretch
from executor.sharding.table.questions import Questions
from executor.sharding.table.source import TableSource
from protos.errors import InvalidArgument


def ask(source: TableSource, total: int, strategy: Strategy = "hash", bucket: Bucket | None = None) -> Asked:
    """What a call asks for. Raises InvalidArgument, UnfitBucket or UnknownColumn."""
    if strategy not in STRATEGIES:
        raise InvalidArgument(reason=f"a scan's strategy is {', '.join(STRATEGIES)}, not {strategy!r}")
    if strategy == "ranges" and bucket is not None:
        raise InvalidArgument(reason="a scan by ranges has no bucket column")
    if strategy == "buckets" and bucket is None:
        raise InvalidArgument(reason="a scan by buckets needs a bucket column: bucket=Bucket(column, of=...)")
    if bucket is not None:
        source.column(bucket.column)
        if bucket.of < 1:
            raise UnfitBucket(column=bucket.column, reason="it has at least one value")
        if strategy == "hash" and bucket.of % total:
            reason = f"{total} shards do not divide its {bucket.of} values"
            raise UnfitBucket(column=bucket.column, reason=reason)
    return Asked(source.name, tuple(source.key_names), total, strategy, bucket, source.filter_text)


def make_plan(source: TableSource, asked: Asked) -> ScanPlan:
    """Fixes the upper end: what gets a greater key later is not of this run.

    Raises UnfitKey, NullKey, DoubleKey, UnfitBucket or DatabaseUnreachable.
    """
    with source.connect() as connection:
        nullable = source.nullable(connection)
        for column in source.key:
            if column.name in nullable and _any(connection, source, column.is_(None)):
                raise NullKey(table=source.name, column=column.name)
        if not source.is_unique(connection) and _holds_double(connection, source):
            raise DoubleKey(table=source.name, column=", ".join(source.key_names))
        if asked.bucket is not None:
            _check_bucket(connection, source, asked.bucket)
        upper = _last_key(connection, source)
    if upper is None:
        return ScanPlan(asked, None)
    if not is_key(upper):
        raise UnfitKey(what=f"Column {', '.join(source.key_names)} of {source.name}, which holds {upper!r},")
    if asked.strategy != "ranges" or asked.total == 1:
        return ScanPlan(asked, upper)
    questions = Questions(source)
    with source.holding():
        marks = walk(lambda after, limit, end: questions.end(Stretch(end), after, limit), upper, asked.total)
    return ScanPlan(asked, upper, bounds(marks, asked.total))


def _any(connection: sa.Connection, source: TableSource, condition: sa.ColumnElement[bool]) -> bool:
    return bool(connection.execute(sa.select(sa.exists().select_from(source.table).where(condition))).scalar_one())


def _holds_double(connection: sa.Connection, source: TableSource) -> bool:
    alike = sa.select(sa.literal(1)).select_from(source.table).group_by(*source.key).having(sa.func.count() > 1)
    return connection.execute(alike.limit(1)).first() is not None


def _last_key(connection: sa.Connection, source: TableSource) -> object:
    last = connection.execute(sa.select(*source.key).order_by(*map(sa.desc, source.key)).limit(1)).first()
    return None if last is None else key_of(last)


def _check_bucket(connection: sa.Connection, source: TableSource, bucket: Bucket) -> None:
    column = source.column(bucket.column)
    outside = (column.is_(None), column < 0, column >= bucket.of)  # one by one, so that an index answers each
    if any(_any(connection, source, condition) for condition in outside):
        reason = f"not every row of {source.name} has a value from 0 to {bucket.of - 1} in it"
        raise UnfitBucket(column=bucket.column, reason=reason)
