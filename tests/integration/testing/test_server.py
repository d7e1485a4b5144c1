"""The server that users test against: runs, messages, errors, and several executors."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from executor.errors import LifespanFailed
from protos.errors import InvalidArgument, TimedOut, Unauthenticated
from shardcast import Context, Executor, Fail, Message, Producer, Skip
from shardcast.testing import LocalExecutor, LocalRun, Proxy, TestServer, UnexpectedEnd
from shardcast.testing.faults import Faults

pytestmark = pytest.mark.filterwarnings("error")


class Params(BaseModel):
    text: str = "hello"


class App(Executor):
    """Handlers for these tests; `held` runs until `go_on` is set."""

    def __init__(self) -> None:
        super().__init__("promotion")
        self.go_on = threading.Event()
        self.begun = threading.Event()
        self.got: list[str] = []
        for handler in (self.push, self.refuse, self.skip, self.held, self.chat):
            self.job(handler.__name__)(handler)
        self.consumer("copies", group="copiers")(self.copy)

    def push(self, context: Context, params: Params) -> str:
        context.log.info("shard %d says %s", context.shard.index, params.text)
        with context.publisher("copies") as publisher:
            publisher.publish([Message(params.text.encode(), key=str(context.shard.index))])
        return params.text

    def refuse(self) -> None:
        raise Fail("not today")

    def skip(self) -> None:
        raise Skip("nothing to do")

    def held(self, context: Context) -> int:
        self.begun.set()
        assert self.go_on.wait(30)
        return context.attempt

    def chat(self, context: Context) -> None:
        for number in range(250):
            context.log.info("line %d", number)

    def copy(self, message: Message) -> None:
        self.got.append(message.body.decode())


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.go_on.set()


def test_a_job_is_triggered_and_what_it_published_and_logged_is_there(app: App) -> None:
    with TestServer(app) as server:
        server.job("pushing", handler="push", shards=3)
        run = server.wait(server.trigger("pushing", {"text": "hi"}))
        assert run.results == ["hi", "hi", "hi"]
        assert sorted((message.key, message.body) for message in server.messages("copies")) == [
            (str(index), b"hi") for index in range(3)
        ]
        assert sorted(server.lines(run)) == [f"shard {index} says hi" for index in range(3)]
        server.wait_read("copiers")
        assert app.got == ["hi", "hi", "hi"]
        assert server.messages("nobody published here") == []


def test_all_of_a_long_log_is_given(app: App) -> None:
    with TestServer(app) as server:
        server.job("chatting", handler="chat")
        assert server.lines(server.wait(server.trigger("chatting"))) == [f"line {number}" for number in range(250)]


def test_an_executor_that_is_refused_ends_nothing_but_itself(app: App) -> None:
    with TestServer(app) as server:
        stranger = LocalExecutor(App(), "stranger", replace(server._world.place, token="wrong"), 1)
        with pytest.raises(Unauthenticated):
            server._portal.call(server._world.start, stranger)
        assert [each.name for each in server.executors] == ["executor-1"]
        assert stranger.links.admin.connections == 0
        server.job("pushing", handler="push")
        server.wait(server.trigger("pushing"))


def test_a_lifespan_that_fails_at_the_end_is_told_as_it_is() -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        raise KeyError("sesame")

    with pytest.raises(LifespanFailed, match="sesame"), TestServer(Executor("promotion", lifespan=lifespan)):
        pass


def test_a_failure_in_the_block_comes_out_as_it_is(app: App) -> None:
    with pytest.raises(LookupError, match="mine"), TestServer(app):
        raise LookupError("mine")


def test_every_method_is_in_the_docs() -> None:
    text = (Path(__file__).parents[3] / "docs" / "testing.md").read_text()
    names = [name for each in (TestServer, Faults, Proxy, LocalRun) for name in vars(each) if name[0] != "_"]
    assert [name for name in names if f"`{name}" not in text and f".{name}(" not in text] == []


def test_a_run_that_fails_says_what_was_wrong_with_its_shards(app: App) -> None:
    with TestServer(app) as server:
        server.job("refusing", handler="refuse", shards=2)
        with pytest.raises(UnexpectedEnd, match=r"(?s)ended as failed, not as succeeded: 2 of 2.*fail: .* not today"):
            server.wait(server.trigger("refusing"))
        run = server.wait(server.trigger("refusing"), state="failed")
        assert [shard.error_code for shard in run.shards] == ["fail", "fail"]
        server.job("skipping", handler="skip")
        assert (
            server.wait(server.trigger("skipping"), state="skipped").shards[0].error_message.endswith("nothing to do")
        )


def test_a_run_that_does_not_end_is_told_with_its_reason() -> None:
    with TestServer() as server:
        server.job("pushing", handler="push", group="promotion")
        with pytest.raises(TimedOut, match=r"(?s)is waiting.*no executor of the group promotion is alive"):
            server.wait(server.trigger("pushing"), seconds=0.1)


def test_jobs_come_from_files_of_yaml_and_are_changed_by_a_second_one(app: App, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("jobs:\n  - {name: one, group: promotion, handler: push, shards: 2, params: {text: first}}\n")
    with TestServer(app) as server:
        server.apply(file)
        server.apply(file.read_text().replace("first", "second").replace("shards: 2", "shards: 1"))
        assert server.wait(server.trigger("one")).results == ["second"]
        with pytest.raises(InvalidArgument):
            server.apply("just a text")


def test_executors_of_two_groups_need_the_group_to_be_said(app: App) -> None:
    with TestServer(app, Executor("other")) as server:
        with pytest.raises(InvalidArgument, match="say the group"):
            server.job("pushing", handler="push")
        server.job("pushing", handler="push", group="promotion")
        assert len(server.executors) == 2


def test_what_users_publish_themselves_is_in_the_topic() -> None:
    with TestServer() as server, Producer(server.broker) as producer:
        producer.publish("orders", Message(b"one", key="7"))
        assert [(message.key, message.body) for message in server.messages("orders")] == [("7", b"one")]


def test_an_executor_that_is_stopped_lets_its_shard_go_on_elsewhere(app: App) -> None:
    with TestServer(app) as server:
        server.job("pushing", handler="push")
        first = server.executors[0]
        server.stop_executor(first)
        second = server.start_executor(App())
        run = server.wait(server.trigger("pushing"))
        assert [shard.holder for shard in run.shards] == [second.name] != [first.name]
        assert server.executors == (second,)


def test_what_a_listener_returns_is_published() -> None:
    app = Executor("relays")

    @app.consumer("orders", group="copiers", mode="offset", to="copies")
    def copy(message: Message) -> Message:
        return Message(message.body, key=message.key)

    with TestServer(app) as server, Producer(server.broker) as producer:
        producer.publish_batch("orders", [Message(b"%d" % n, key="7") for n in range(20)])
        server.wait_read("copiers")
        assert [message.body for message in server.messages("copies")] == [b"%d" % n for n in range(20)]


@pytest.mark.anyio
async def test_it_works_in_async_tests_as_well(app: App) -> None:
    with TestServer(app) as server:
        server.job("pushing", handler="push")
        assert server.wait(server.trigger("pushing")).results == ["hello"]
