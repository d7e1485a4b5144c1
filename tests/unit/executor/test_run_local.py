"""A handler as a plain function in a test."""

import asyncio
import logging

import pytest
from pydantic import BaseModel

from executor.errors import BadParams, BadResult, Fail, Retry, Skip
from executor.running.context import AsyncContext, Context, current_async_context, current_context
from executor.testing import run_local
from shardcast import Message


class Params(BaseModel):
    times: int


def test_a_plain_handler_runs_in_the_calling_thread_on_its_shard() -> None:
    def push(context: Context, params: Params) -> dict[str, int]:
        assert current_context() is context
        context.progress(1, 4)
        context.progress(2, 4)
        context.log.info("shard %d of %d", context.shard.index, context.shard.total)
        context.log.debug("not in the run's log")
        with context.publisher("a") as publisher:
            publisher.publish([Message(b"one"), Message(b"two", topic="b")])
        return {"times": params.times}

    run = run_local(push, {"times": 3}, shard=(1, 4))
    assert run.result == {"times": 3}
    assert run.lines == ["shard 1 of 4"]
    assert run.progress == (2, 4)
    assert {topic: [message.body for message in sent] for topic, sent in run.published.items()} == {
        "a": [b"one"],
        "b": [b"two"],
    }
    assert [message.body for message in run.messages] == [b"one", b"two"]


def test_an_async_handler_runs_as_well_and_knows_its_context() -> None:
    async def push(context: AsyncContext) -> str:
        await asyncio.sleep(0)
        assert current_async_context() is context
        context.log.warning("from a coroutine")
        async with context.publisher("a") as publisher:
            await publisher.publish([Message(b"one")])
        return "done"

    run = run_local(push)
    assert (run.result, run.lines, run.progress) == ("done", ["from a coroutine"], None)
    assert len(run.messages) == 1


@pytest.mark.parametrize("word", [Retry("later", after=3), Fail("no"), Skip("nothing")])
def test_the_words_for_an_end_come_out_as_the_handler_said_them(word: Retry | Fail | Skip) -> None:
    def end() -> object:
        raise word

    with pytest.raises(type(word)) as raised:
        run_local(end)
    assert raised.value is word
    assert run_local(lambda: word).result is word


def test_an_error_of_the_handler_comes_out_as_it_is() -> None:
    async def fail() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run_local(fail)


def test_what_a_run_could_not_take_or_keep_is_refused() -> None:
    def echo(params: Params) -> object:
        return object()

    with pytest.raises(BadParams, match="times"):
        run_local(echo, {"times": "many"})
    with pytest.raises(BadResult):
        run_local(echo, {"times": 1})


def test_lines_go_to_the_log_of_this_process_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        run_local(lambda context: context.log.debug("for whoever looks"))
    assert "for whoever looks" in caplog.text
