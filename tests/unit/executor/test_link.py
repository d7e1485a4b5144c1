"""Leases by the executor's own clock: counted from when a beat was sent, and gone when it slept through them."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from executor.app import Executor
from executor.link.convert import LINES_A_MESSAGE, log_lines_of
from executor.link.link import Desk, Link
from executor.link.outbox import Outbox
from executor.link.outgoing import Outgoing, Pins, Reports
from executor.model import AttemptKey, Outcome, OutcomeState, RunId, Term
from executor.running.attempt import World
from executor.running.runlog import MAX_ENDED_WHOLE, MAX_WAITING, EndedLogs, RunLog
from executor.running.runner import Runner
from executor.running.shard import OpenProducer
from protos.errors import Unreachable
from protos.executor.v1 import link_pb2 as pb

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ATTEMPT = pb.Attempt(run_id="run", shard=0, term=1)
KEY = AttemptKey(RunId("run"), 0, Term(1))
OUTCOME = Outcome(KEY, OutcomeState.SUCCEEDED, NOW, NOW)
ASSIGN = pb.ConnectResponse(
    assign=pb.Assign(assignments=[pb.Assignment(attempt=ATTEMPT, handler="wait", total=1, attempt_number=1)])
)
NO_PRODUCER: OpenProducer = lambda key: pytest.fail("nothing is published here")  # noqa: E731


@dataclass
class Side:
    """This side of a link with a lease of 2 s, at a time that the test sets."""

    time: float = 0.0
    directory: Path = Path("unused")
    was_started: bool = False
    delivered: list[Outcome] = field(default_factory=list)
    outgoing: Outgoing = field(default_factory=Outgoing)

    def __post_init__(self) -> None:
        app = Executor("group")
        app.job("wait")(self.wait)
        self.pins = Pins(self.outgoing)
        world = World(app.registry, NO_PRODUCER, self.pins.propose, lambda: NOW, lambda: self.time)
        self.runner = Runner(world, 1, self.deliver)
        self.reports = Reports(Outbox(self.directory), self.outgoing)
        desk = Desk(self.runner, self.outgoing, self.pins, self.reports, lambda: None, lambda: self.time)
        self.link = Link(desk, "admin", pb.Welcome(lease_ms=2_000, beat_period_ms=500), begun_at=0.0)

    async def wait(self) -> None:
        self.was_started = True
        await asyncio.Event().wait()

    async def deliver(self, outcome: Outcome) -> None:
        self.delivered.append(outcome)

    async def hear(self, *responses: pb.ConnectResponse) -> None:
        async def stream() -> AsyncIterator[pb.ConnectResponse]:
            for response in responses:
                yield response

        with pytest.raises(Unreachable):
            await self.link.hear(stream())

    async def beat(self) -> pb.Beat:
        """The next beat, as it goes out."""
        beating = asyncio.create_task(self.link.keep_beating())
        while not (request := await self.outgoing.next()).HasField("beat"):
            pass
        beating.cancel()
        return request.beat


async def test_an_answered_beat_extends_the_lease_from_when_it_was_sent() -> None:
    side = Side()
    await side.hear(ASSIGN)
    side.time = 1.0
    beat = await side.beat()
    side.time = 1.9
    await side.hear(pb.ConnectResponse(beat_accepted=pb.BeatAccepted(number=beat.number)))
    side.time = 2.9
    side.runner.lapse()
    assert side.runner.held == [KEY]
    side.time = 3.0
    side.runner.lapse()
    assert side.runner.held == []
    await side.runner.drain(1, 1)
    assert side.delivered == []


async def test_an_answer_that_comes_after_the_lease_lapsed_does_not_bring_it_back() -> None:
    side = Side()
    await side.hear(ASSIGN)
    side.time = 1.0
    beat = await side.beat()
    side.time = 2.5
    await side.hear(pb.ConnectResponse(beat_accepted=pb.BeatAccepted(number=beat.number)))
    side.runner.lapse()
    assert side.runner.held == []
    await side.runner.drain(1, 1)


async def test_an_assignment_that_waited_while_the_process_slept_is_not_begun() -> None:
    side = Side(time=5.0)
    await side.hear(ASSIGN)
    await side.runner.drain(1, 1)
    assert not side.was_started
    assert side.delivered == []


async def test_an_admin_that_is_silent_for_a_lease_is_dialled_again() -> None:
    side = Side(time=10.0)
    side.link.urge()
    with pytest.raises(Unreachable):
        await side.link.keep_beating()


async def test_a_pin_is_proposed_again_on_the_next_link_until_it_is_answered() -> None:
    side = Side()
    proposing = asyncio.create_task(side.pins.propose(KEY, "log", "mine"))
    first = await side.outgoing.next()
    side.link.begin()
    assert await side.outgoing.next() == first
    side.pins.settle(pb.Pinned(attempt=ATTEMPT, name="log", value="theirs"))
    assert await proposing == "theirs"


def test_lines_beyond_the_cap_are_counted_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = RunLog(KEY, 1, lambda: NOW)
    log.debug("too fine")
    for number in range(MAX_WAITING + 2):
        log.info("line %d", number)
    log.info("bad %d format", "x")
    batch = log.take()
    assert batch is not None
    assert (len(batch.lines), batch.dropped, batch.lines[-1].text) == (MAX_WAITING, 3, f"line {MAX_WAITING - 1}")
    assert log.take() is None


class Mute:
    """It cannot be told."""

    def __str__(self) -> str:
        raise AttributeError("no")


def test_lines_are_filled_in_as_logging_does_and_none_fails_its_handler() -> None:
    log = RunLog(KEY, 1, lambda: NOW)
    log.info("%d of %d", 1, 2)
    log.info("%(done)d of %(total)d", {"done": 1, "total": 2})
    log.info("%(more)s", {"done": 1})
    log.info("%s", Mute())
    log.info(Mute())
    batch = log.take()
    assert batch is not None
    texts = [line.text for line in batch.lines]
    assert texts[:3] == ["1 of 2", "1 of 2", "%(more)s ({'done': 1},)"]
    assert "Mute object" in texts[3]
    assert texts[4] == "its message cannot be shown"


def test_a_long_batch_goes_in_messages_of_bounded_size_and_the_last_tells_what_was_dropped() -> None:
    log = RunLog(KEY, 2, lambda: NOW)
    for _ in range(MAX_WAITING + 3):
        log.info("x" * 9_999)
    batch = log.take()
    assert batch is not None
    messages = log_lines_of(batch)
    assert [len(message.lines) for message in messages] == [LINES_A_MESSAGE] * (MAX_WAITING // LINES_A_MESSAGE)
    assert max(message.ByteSize() for message in messages) < 1 << 20
    assert [message.dropped for message in messages if message.dropped] == [3]
    assert (messages[-1].dropped, messages[0].attempt_number) == (3, 2)


def test_of_logs_that_wait_for_long_after_their_end_only_the_count_is_kept() -> None:
    ended = EndedLogs()
    for number in range(MAX_ENDED_WHOLE + 2):
        log = RunLog(AttemptKey(RunId("run"), number, Term(1)), 1, lambda: NOW)
        if number != 1:
            log.info("a")
            log.info("b")
        ended.add(log)
    batches = [batch for log in ended.pop_all(()) if (batch := log.take()) is not None]
    assert [(len(batch.lines), batch.dropped) for batch in batches] == [(0, 2)] + [(2, 0)] * MAX_ENDED_WHOLE
    (message,) = log_lines_of(batches[0])
    assert (list(message.lines), message.dropped) == ([], 2)


async def test_a_link_that_does_not_keep_up_gets_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.link.link.TELL_SECONDS", 0)
    side = Side()
    taken = asyncio.Event()
    monkeypatch.setattr(side.runner, "take_log_lines", lambda besides: taken.set() or [])
    while side.outgoing.has_room:
        side.outgoing.say(pb.ConnectRequest())
    telling = asyncio.create_task(side.link.keep_telling())
    for _ in range(9):
        await asyncio.sleep(0)
    assert not taken.is_set()
    await side.outgoing.next()
    await taken.wait()
    telling.cancel()


async def test_the_last_lines_go_before_the_report_although_it_waits_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.link.link.TELL_SECONDS", 0)
    side = Side(directory=tmp_path)
    log = RunLog(KEY, 1, lambda: NOW)
    log.info("the last word")
    side.runner._ended_logs.add(log)
    await side.reports.deliver(OUTCOME)
    telling = asyncio.create_task(side.link.keep_telling())
    for _ in range(9):
        await asyncio.sleep(0)
    telling.cancel()
    report = await side.outgoing.next()
    (before,) = side.link.said_before(report)
    assert [line.text for line in before.log_lines.lines] == ["the last word"]


async def test_what_a_handler_logs_can_be_told_whatever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("executor.handler"), "propagate", False)  # the report cannot carry this text
    log = RunLog(KEY, 1, lambda: NOW)
    log.log(1 << 40, "\udc80")
    batch = log.take()
    assert batch is not None
    (message,) = log_lines_of(batch)
    (line,) = message.lines
    assert (line.level, line.text) == (50, "?")


async def test_an_assignment_that_comes_again_after_its_end_is_answered_by_its_report(tmp_path: Path) -> None:
    side = Side(directory=tmp_path)
    await side.reports.deliver(OUTCOME)
    assert (await side.outgoing.next()).HasField("report")
    await side.hear(ASSIGN)
    request = await side.outgoing.next()
    assert request.accept.attempts == [ATTEMPT]
    assert side.runner.held == []


async def test_an_outcome_is_kept_until_the_answer_is_one_that_settles_it(tmp_path: Path) -> None:
    side = Side(directory=tmp_path)
    await side.reports.deliver(OUTCOME)
    kept = []
    for verdict in (pb.VERDICT_UNSPECIFIED, 99, pb.VERDICT_SUPERSEDED):
        answer = pb.ReportAnswer(attempt=ATTEMPT, verdict=verdict)  # type: ignore[arg-type]
        await side.reports.accept([answer])
        kept.append(side.reports.keys)
    assert kept == [[KEY], [KEY], []]


async def test_beating_ends_although_it_is_urged_as_it_is_cancelled() -> None:
    """A link that breaks as a drain begins: one that went on beating would keep the next one from being dialled."""
    side = Side()
    beating = asyncio.create_task(side.link.keep_beating())
    while not (await side.outgoing.next()).HasField("beat"):
        pass
    await asyncio.sleep(0)  # it waits now
    side.link.urge()
    beating.cancel()
    done, _ = await asyncio.wait([beating], timeout=5)
    assert done


async def test_a_beat_is_confirmed_although_the_disk_has_not_forgotten_an_outcome_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many outcomes on a slow disk would else take the lease of what still runs."""
    side = Side(directory=tmp_path)
    go_on, remove = threading.Event(), Outbox.remove

    def slowly(outbox: Outbox, key: AttemptKey) -> None:
        assert go_on.wait(10)
        remove(outbox, key)

    monkeypatch.setattr(Outbox, "remove", slowly)
    await side.reports.deliver(OUTCOME)
    side.time = 1.0
    beat = await side.beat()
    accepting = asyncio.create_task(side.link.keep_accepting())
    answer = pb.ReportAnswer(attempt=ATTEMPT, verdict=pb.VERDICT_ACCEPTED)
    accepted = pb.ConnectResponse(report_accepted=pb.ReportAccepted(answers=[answer]))
    async with asyncio.timeout(30):
        await side.hear(accepted, pb.ConnectResponse(beat_accepted=pb.BeatAccepted(number=beat.number)))
    assert side.reports.keys == [KEY]
    go_on.set()
    await side.reports.emptied()
    accepting.cancel()
