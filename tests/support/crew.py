"""An app for processes of their own: rows are published one by one, slowly enough to be interrupted."""

import os
from pathlib import Path

from sqlalchemy import create_engine

from shardcast import Context, Executor, Message

app = Executor("promotion")


@app.job("push")
def push(context: Context) -> str:
    engine = create_engine(os.environ["CREW_DATABASE"])
    with context.publisher("pushed") as publisher:
        for rows in context.scan(engine, "users", batch=1):
            publisher.publish([Message(b"", key=str(row.id)) for row in rows], checkpoint=rows.cursor)
            publisher.flush()
            while rows[0].id == 20 and Path(os.environ["CREW_GATE"]).exists():  # until it is killed
                context.raise_if_cancelled()
    engine.dispose()
    return os.environ["SHARDCAST_NAME"]
