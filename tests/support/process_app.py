"""Handlers that run in processes of their own: found by import, so they stand in a module."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from typing import Annotated

import sqlalchemy as sa

from executor.app import Executor
from executor.errors import Fail, Retry, Skip
from executor.running.context import Context, current_context
from shardcast import Depends, Message, once

app = Executor("group")


class Odd(Exception):
    """An error that only this module knows."""


def job_of(context: Context) -> str:
    return context.job


def process(name: str, **manner: object):  # type: ignore[no-untyped-def]
    return app.job(name, isolation="process", **manner)  # type: ignore[call-overload]


@process("see")
def see(context: Context, params: dict[str, timedelta]) -> object:
    assert current_context() is context
    context.log.info("seen by %d", os.getpid())
    context.progress(3, 4)
    context.count("seen", 2)
    shard = [context.shard.index, context.shard.total]
    return {"shard": shard, "seconds": params["a"].total_seconds(), "pid": os.getpid(), "attempt": context.attempt}


@process("end", give_up_on=KeyError)
def end(params: str) -> object:
    match params:
        case "retry":
            raise Retry("busy", after=2)
        case "fail":
            return Fail("broken")
        case "skip":
            raise Skip("holiday")
        case "odd":
            raise Odd("only known there")
        case "key":
            raise KeyError("final")
        case "exit":
            sys.exit(3)
    return {1, 2, params}.__class__


@process("die")
def die(params: str) -> None:
    match params:
        case "exit":
            os._exit(3)
        case "segfault":
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)


@process("leave")
def leave(params: str) -> None:
    """Becomes a daemon, which has what was open here and is no member of its group."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        with open(params, "w") as file:
            file.write(str(os.getpid()))
        os.write(writing, b"x")
        time.sleep(600)
        os._exit(0)
    os.read(reading, 1)
    os._exit(0)


@process("once")
def do_once(params: str) -> bool:
    with once(params, window=timedelta(days=1)) as is_first:
        return is_first


@process("spin")
def spin(context: Context, params: str) -> None:
    """Never asks its context, ignores what can be ignored, and has a child that does the same."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code])
    with open(params, "w") as file:
        json.dump([os.getpid(), child.pid], file)
    context.log.info("spinning")
    while True:
        pass


@process("watch")
def watch(context: Context) -> str:
    """Stops when it is told to, at its own pace."""
    context.log.info("watching")
    while not context.is_cancelled:
        time.sleep(0.01)
    context.log.info("told")
    context.raise_if_cancelled()
    return "never"


@process("push")
def push(context: Context, params: str) -> int:
    """Publishes the rows of a table; dies once in the middle if it is asked to."""
    url, die_after = json.loads(params)
    engine, sent = sa.create_engine(url), 0
    with context.publisher("t") as publisher:
        for rows in context.scan(engine, "users", batch=10):
            publisher.publish([Message(b"x", key=str(row.id)) for row in rows], checkpoint=rows.cursor)
            sent += len(rows)
            if die_after and sent >= die_after and context.attempt == 1:
                publisher.flush()
                os.kill(os.getpid(), signal.SIGKILL)
    return sent


@process("perish")
def perish(context: Context, params: str) -> None:
    """Publishes the rows of a table; each attempt but the last dies behind so many batches."""
    url, lives = json.loads(params)
    with context.publisher("push") as publisher:
        for number, rows in enumerate(context.scan(sa.create_engine(url), "users", batch=10), 1):
            publisher.publish([Message(b"x", key=str(row.id)) for row in rows], checkpoint=rows.cursor)
            if context.attempt <= len(lives) and number == lives[context.attempt - 1]:
                os.kill(os.getpid(), signal.SIGKILL)


@process("depend")
def depend(context: Context, params: str, job: Annotated[str, Depends(job_of)]) -> object:
    return context.state if params == "state" else job


@process("publish")
def publish(context: Context) -> None:
    with context.publisher("t") as publisher:
        publisher.publish([Message(b"x")])
