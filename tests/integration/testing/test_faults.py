"""Faults that a test asks for, and what the house promises under them."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from protos.errors import TimedOut
from shardcast import Context, Executor, Message
from shardcast.testing import TestServer
from shardcast.testing.executors import ExecutorRefused

LEASE = timedelta(seconds=1)
LONG_LEASE = timedelta(seconds=10)  # where it must not end, however busy the machine is
CREW = "tests.support.crew:app"


class App(Executor):
    """Publishes `count` messages one by one; the gate holds it up before the one that is named."""

    def __init__(self, count: int = 5, gate_before: int = 3) -> None:
        super().__init__("promotion")
        self.count, self.gate_before = count, gate_before
        self.gate = threading.Event()
        self.at_gate = threading.Event()
        self.attempts: list[int] = []
        self.acknowledged: list[int] = []
        self.job("push")(self.push)

    def push(self, context: Context) -> int:
        self.attempts.append(context.attempt)
        with context.publisher("pushed") as publisher:
            for number in range(self.count):
                if number == self.gate_before:
                    self.at_gate.set()
                    while not self.gate.wait(0.02):
                        context.raise_if_cancelled()
                publisher.publish([Message(b"", key=str(number))])
                publisher.flush()
                self.acknowledged.append(number)
        return context.attempt


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.gate.set()


def until(check: Callable[[], object], seconds: float = 15.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < give_up_at, "it never came"
        time.sleep(0.02)


def keys(server: TestServer) -> list[int]:
    return sorted(int(message.key or "") for message in server.messages("pushed"))


def test_an_executor_that_was_killed_loses_its_shard_to_another(app: App) -> None:
    with TestServer(app, lease=LEASE) as server:
        server.job("pushing", handler="push")
        run = server.trigger("pushing")
        assert app.at_gate.wait(10)
        first = server.executors[0]
        server.faults.kill(first)
        other = App(count=1)
        second = server.start_executor(other)
        (shard,) = server.wait(run).shards
        assert (shard.holder, shard.result) == (second.name, 1)
        assert app.attempts == other.attempts == [1], "to be killed is no failure of the handler"


def test_a_process_that_was_killed_has_published_each_row_once_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, database = tmp_path / "gate", f"sqlite:///{tmp_path}/users.db"
    gate.touch()
    engine = sa.create_engine(database)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE users (id INTEGER PRIMARY KEY)")
        connection.execute(sa.text("INSERT INTO users VALUES (:id)"), [{"id": id_} for id_ in range(40)])
    engine.dispose()
    environment = {"CREW_DATABASE": database, "CREW_GATE": str(gate)}
    with TestServer(lease=LEASE) as server:
        first = server.start_process(CREW, environment=environment)
        server.job("pushing", handler="push")
        run = server.trigger("pushing")
        until(lambda: 20 in keys(server))
        server.faults.kill(first)
        assert first.process.returncode == -9
        gate.unlink()
        second = server.start_process(CREW, environment=environment)
        assert server.wait(run).results == [second.name]
        assert keys(server) == list(range(40))
        server.stop_executor(second)
        assert second.process.returncode == 0


LEAVING = """
import subprocess
from pathlib import Path
from shardcast import Executor

app = Executor("group")
Path(__file__).with_name("pid").write_text(str(subprocess.Popen(["sleep", "60"]).pid))
"""


def test_a_process_can_be_killed_although_what_it_started_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaving.py").write_text(LEAVING)
    monkeypatch.syspath_prepend(tmp_path)
    with TestServer() as server:
        executor = server.start_process("leaving:app")
        try:
            server.faults.kill(executor)
            assert executor.process.returncode == -signal.SIGKILL
        finally:
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_process_that_does_not_start_says_why() -> None:
    with TestServer() as server, pytest.raises(ExecutorRefused, match="nowhere cannot be imported"):
        server.start_process("nowhere:app")


def test_an_executor_whose_link_is_cut_loses_its_shard_and_comes_back(app: App) -> None:
    with TestServer(app, lease=LEASE) as server:
        server.job("pushing", handler="push")
        run = server.trigger("pushing")
        assert app.at_gate.wait(10)
        (first,) = server.executors
        with server.faults.link_cut(first):
            until(lambda: server.run(run).shards[0].state == "waiting")
            app.gate.set()
        (shard,) = server.wait(run).shards
        assert (shard.holder, shard.term) == (first.name, 2)
        assert keys(server) == sorted([0, 1, 2, *range(5)]), "without checkpoints the second attempt begins anew"


def test_a_link_to_the_broker_that_is_cut_is_waited_for(app: App) -> None:
    with TestServer(app, lease=LONG_LEASE) as server:
        server.job("pushing", handler="push")
        run = server.trigger("pushing")
        assert app.at_gate.wait(10)
        with server.faults.link_cut(server.executors[0], to="broker"):
            app.gate.set()
            with pytest.raises(TimedOut):
                server.wait(run, seconds=0.5)
            assert keys(server) == [0, 1, 2]
        server.wait(run)
        assert (keys(server), app.attempts) == ([0, 1, 2, 3, 4], [1])


def test_what_was_stored_and_not_acknowledged_is_sent_again_and_stored_once(app: App) -> None:
    with TestServer(app, lease=LONG_LEASE) as server:
        server.job("pushing", handler="push")
        run = server.trigger("pushing")
        assert app.at_gate.wait(10)
        with server.faults.acknowledgements_dropped(server.executors[0]):
            app.gate.set()
            until(lambda: 3 in keys(server))
            with pytest.raises(TimedOut):
                server.wait(run, seconds=0.5)
            assert (keys(server), app.acknowledged) == ([0, 1, 2, 3], [0, 1, 2])
        server.wait(run)
        assert (keys(server), app.attempts) == ([0, 1, 2, 3, 4], [1])


def test_a_report_whose_acceptance_was_lost_is_made_again_and_counts_once(app: App) -> None:
    with TestServer(app, lease=LONG_LEASE) as server:
        server.job("pushing", handler="push")
        run = server.trigger("pushing")
        assert app.at_gate.wait(10)
        with server.faults.acknowledgements_dropped(server.executors[0], of="admin"):
            app.gate.set()
            server.wait(run)
        assert (keys(server), app.attempts) == ([0, 1, 2, 3, 4], [1])
        assert server.wait(server.trigger("pushing")).results == [1], "its slot is free again"
