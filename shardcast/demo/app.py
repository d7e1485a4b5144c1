"""The demo's executor: one handler that publishes a push message for each user of its shard."""

import json
import os

from pydantic import BaseModel
from sqlalchemy import Engine, create_engine

from shardcast import Context, Executor, Message

TOPIC = "platform_promotion_send_topic"
DATABASE_VARIABLE = "SHARDCAST_DEMO_DATABASE"  # in the environment, because a URL may hold a password

app = Executor("promotion")


class PushParams(BaseModel):
    promotion_id: int
    table: str
    id_column: str
    where: str | None = None  # a filter as text


@app.job("promotion.push")
def push(context: Context, params: PushParams) -> dict[str, int]:
    """Scans this shard's rows and publishes them batch by batch, each batch together with the cursor behind it."""
    engine = _engine()
    published = 0
    try:
        key = params.id_column
        with context.publisher(TOPIC) as publisher:
            for users in context.scan(engine, params.table, key=key, where=params.where, columns=[key]):
                publisher.publish([_message(params.promotion_id, user[0]) for user in users], checkpoint=users.cursor)
                published += len(users)
    finally:
        engine.dispose()
    return {"published": published}


def _engine() -> Engine:
    return create_engine(os.environ[DATABASE_VARIABLE])


def _message(promotion_id: int, user_id: object) -> Message:
    """About 200 bytes, as a push message is."""
    body = (
        f'{{"promotion_id":{promotion_id},"promotion_type":"platform","user_id":{json.dumps(str(user_id))},'
        '"main_message":"Nine o\'clock: everything at half price","message":"Today only, in all shops and online.",'
        '"inform_type":"push"}'
    )
    return Message(body=body.encode(), key=f"{promotion_id}:{user_id}", tag="push")
