"""The clock of a test server: what is due happens in order, and who is alive stays so."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shardcast import Consumer, Context, Executor, Message, Producer, Retry
from shardcast.testing import TestServer
from shardcast.testing.clock import JumpingClock

SHANGHAI = ZoneInfo("Asia/Shanghai")
EVENING = datetime(2026, 11, 30, 20, tzinfo=SHANGHAI)


class App(Executor):
    """`held` runs until `go_on` is set; `third` succeeds at its third try."""

    def __init__(self) -> None:
        super().__init__("promotion")
        self.go_on = threading.Event()
        self.begun = threading.Event()
        for name, handler in (("push", self.push), ("third", self.third), ("held", self.held)):
            self.job(name)(handler)

    def push(self) -> str:
        return "done"

    def third(self, context: Context) -> int:
        if context.attempt < 3:
            raise Retry("not yet", after=timedelta(minutes=10))
        return context.attempt

    def held(self, context: Context) -> int:
        self.begun.set()
        while not self.go_on.wait(0.02):
            context.raise_if_cancelled()
        return context.attempt


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.go_on.set()


def test_every_fire_of_an_advance_has_its_run_at_its_instant(app: App) -> None:
    with TestServer(app, start=EVENING) as server:
        server.job("nightly", handler="push", trigger={"cron": "0 0 9 * * ?", "time_zone": "Asia/Shanghai"})
        server.job("often", handler="push", trigger={"cron": "0 0 */6 * * ?", "time_zone": "Asia/Shanghai"})
        runs = server.advance(timedelta(days=2))
        assert [run.fire_time.astimezone(SHANGHAI).hour for run in runs if run.job == "nightly"] == [9, 9]
        hours = [run.fire_time.astimezone(SHANGHAI).hour for run in runs if run.job == "often"]
        assert hours == [0, 6, 12, 18, 0, 6, 12, 18]
        assert {run.state for run in runs} == {"succeeded"}, "each had time to end before the next one"
        assert [run.fire_time for run in runs] == sorted(run.fire_time for run in runs)
        assert server.advance(timedelta(minutes=1)) == []


def test_a_leap_makes_misfires_of_what_was_due_on_the_way(app: App) -> None:
    with TestServer(app, start=EVENING) as server:
        server.job("once", handler="push", trigger={"every": "1h"})
        server.job("skipped", handler="push", trigger={"every": "1h"}, misfire="skip")
        runs = server.leap(timedelta(hours=5, minutes=30))
        assert [run.job for run in runs] == ["once"]


def test_a_retry_waits_by_the_clock_of_the_server(app: App) -> None:
    with TestServer(app, start=EVENING) as server:
        server.job("trying", handler="third", trigger={"every": "1h"}, retry={"attempts": 3})
        (run,) = server.advance(timedelta(hours=1, minutes=5))
        (shard,) = run.shards
        assert (run.ended_at, shard.state, shard.attempt) == (None, "waiting", 1)
        assert shard.due_at is not None
        assert timedelta(minutes=10) <= shard.due_at - run.fire_time < timedelta(minutes=11)
        server.advance(timedelta(minutes=20))
        assert server.wait(run).results == [3]


def test_no_running_attempt_is_lost_by_jumps_of_any_length(app: App) -> None:
    with TestServer(app, lease=timedelta(seconds=1)) as server:
        server.job("holding", handler="held")
        run = server.trigger("holding")
        assert app.begun.wait(10)
        for by in [timedelta(hours=1), timedelta(days=3), *[timedelta(milliseconds=150)] * 60]:
            server.advance(by)
        app.go_on.set()
        assert server.wait(run).results == [1], "the first attempt came through"
        assert server.run(run).shards[0].holder == server.executors[0].name


def test_executors_stay_alive_through_a_jump_and_are_counted(app: App) -> None:
    with TestServer(app, App(), App()) as server:
        server.job("wide", handler="push", shards="executors", trigger={"every": "1h"})
        (run,) = server.advance(timedelta(hours=1))
        assert (len(run.shards), run.state) == (3, "succeeded")


def test_a_job_that_takes_long_is_left_alone_if_nobody_waits(app: App) -> None:
    with TestServer(app) as server:
        server.job("holding", handler="held", trigger={"every": "1h"}, overlap="skip")
        first, second = server.advance(timedelta(hours=2), wait=False)
        assert second.state == "skipped"
        app.go_on.set()
        assert server.wait(first).results == [1]


def test_an_attempt_is_taken_away_when_its_timeout_is_over_by_the_clock(app: App) -> None:
    with TestServer(app, lease=timedelta(seconds=1)) as server:
        server.job("holding", handler="held", timeout="10m")
        run = server.trigger("holding")
        assert app.begun.wait(10)
        server.advance(timedelta(minutes=11))
        assert [shard.error_code for shard in server.wait(run, state="failed").shards] == ["timed_out"]


def test_delayed_messages_come_when_the_clock_says_so() -> None:
    with TestServer(start=EVENING) as server, Producer(server.broker) as producer:
        producer.publish("promotion", Message(b"now", key="1"))
        producer.publish("promotion", Message(b"later", key="1", deliver_at=EVENING + timedelta(hours=1)))
        assert [message.body for message in server.messages("promotion")] == [b"now"]
        server.advance(timedelta(minutes=59))
        assert [message.body for message in server.messages("promotion")] == [b"now"]
        server.advance(timedelta(minutes=1))
        assert [message.body for message in server.messages("promotion")] == [b"now", b"later"]
        assert abs(server.now - EVENING - timedelta(hours=1)) < timedelta(minutes=1)


def test_a_message_that_was_retried_comes_again_when_the_clock_says_so() -> None:
    with TestServer() as server, Producer(server.broker) as producer:
        producer.publish("orders", Message(b"one", key="1"))
        with Consumer(server.broker, "billing", ["orders"], mode="lease") as consumer:
            consumer.retry(next(iter(consumer))[0], after=timedelta(hours=2))
            server.advance(timedelta(hours=2))
            (again,) = next(iter(consumer))
            assert (again.body, again.attempt) == (b"one", 2)
            consumer.acknowledge(again)
        server.wait_read("billing")


def test_the_clock_goes_on_and_never_back() -> None:
    seconds = iter(range(100))
    clock = JumpingClock(datetime(2026, 1, 1, tzinfo=UTC), lambda: float(next(seconds)))
    assert clock() == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert clock.set_to(datetime(2026, 1, 2, tzinfo=UTC)) == timedelta(days=1, seconds=-2)
    assert clock() == datetime(2026, 1, 2, 0, 0, 1, tzinfo=UTC)
    assert clock.set_to(datetime(2025, 1, 1, tzinfo=UTC)) == timedelta()
    assert clock.milliseconds() == datetime(2026, 1, 2, 0, 0, 3, tzinfo=UTC).timestamp() * 1000
