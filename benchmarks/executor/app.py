"""The app whose executors are measured: it publishes a message of about 200 bytes for each row of its shard."""

import os
from collections.abc import Sequence

from pydantic import BaseModel
from sqlalchemy import create_engine

from executor.sharding.plan import Bucket, Strategy
from shardcast import Context, Executor, Message

TABLE = "users"
COLUMNS = ("id", "name", "city")
BUCKETS = 1_024
TOPIC = "bench"
HANDLER = "bench.rows"
GROUP = "bench"
APP = f"{__name__}:app"
DATABASE_VARIABLE = "SHARDCAST_BENCH_DATABASE"

app = Executor(GROUP)


class Order(BaseModel):
    """How to scan; `is_indexed`: by the bucket column."""

    strategy: Strategy
    is_indexed: bool
    batch: int

    @property
    def bucket(self) -> Bucket | None:
        return Bucket("bucket", of=BUCKETS) if self.is_indexed else None


@app.job(HANDLER)
def rows(context: Context, params: Order) -> None:
    engine = create_engine(os.environ[DATABASE_VARIABLE])
    try:
        scan = context.scan(
            engine, TABLE, strategy=params.strategy, bucket=params.bucket, columns=COLUMNS, batch=params.batch
        )
        with context.publisher(TOPIC) as publisher:
            for found in scan:
                publisher.publish([message(row) for row in found], checkpoint=found.cursor)
    finally:
        engine.dispose()


def message(row: Sequence[object]) -> Message:
    user_id, name, city = row
    body = (
        f'{{"promotion_id":42,"promotion_type":"platform","user_id":"{user_id}","name":"{name}","city":"{city}",'
        '"main_message":"Today only: half price","inform_type":"push"}'
    )
    return Message(body=body.encode(), key=f"42:{user_id}", tag="push")
