"""How an attempt ends, for every way its handler and the world around it can go."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from broker.client.message import Message
from broker.client.publishing.receipts import Receipts
from broker.errors import ProducerUnknown, StaleTerm, TooLarge
from executor.app import Executor
from executor.errors import Cancelled, Fail, Retry, RowFailed, Skip
from executor.link.convert import outcome_of
from executor.model import Assignment, AttemptKey, Outcome, OutcomeState, RunId, Term
from executor.running.attempt import Attempt, World
from executor.running.cancellation import Why
from executor.running.context import AsyncContext, Context, current_context
from executor.running.outcome import MAX_TRACEBACK_BYTES
from executor.running.shard import MAX_COUNTS
from executor.testing import MemoryProducer

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = AttemptKey(RunId("run"), 0, Term(3))


@dataclass
class Given:
    """A world in which the test says what time it is and what the broker does."""

    producer: MemoryProducer = field(default_factory=MemoryProducer)
    time: float = 0.0
    pins: dict[str, str] = field(default_factory=dict)
    app: Executor = field(default_factory=lambda: Executor("group"))
    opened: list[AttemptKey] = field(default_factory=list)

    def world(self) -> World:
        return World(self.app.registry, self.open_producer, self.pin, lambda: NOW, lambda: self.time)

    @asynccontextmanager
    async def open_producer(self, key: AttemptKey) -> AsyncIterator[MemoryProducer]:
        self.opened.append(key)
        yield self.producer

    async def pin(self, attempt: AttemptKey, name: str, value: str) -> str:
        return self.pins.setdefault(name, value)

    def attempt(self, handler: Callable[..., object], params: str = "null", **more: object) -> Attempt:
        self.app.job("handler")(handler)
        assignment = Assignment(KEY, "job", "handler", 4, params, **more)  # type: ignore[arg-type]
        return Attempt(self.world(), assignment, lease_until=10.0)

    async def outcome(self, handler: Callable[..., object], params: str = "null", **more: object) -> Outcome:
        outcome = await self.attempt(handler, params, **more).run()
        assert outcome is not None
        return outcome


class RefusingProducer(MemoryProducer):
    """Takes publishes, and fails them all at the flush, as a broker that fenced the holder does."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def flush(self) -> None:
        raise self.error


class DeafProducer(MemoryProducer):
    """A broker that is away."""

    async def publish(
        self, topic: str, messages: Sequence[Message], cursor: bytes | None = None
    ) -> asyncio.Future[Receipts]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


def raising(error: Exception) -> Callable[[], object]:
    def handler() -> object:
        raise error

    return handler


def returning(value: object) -> Callable[[], object]:
    return lambda: value


def publishing(context: Context) -> None:
    with context.publisher("t") as publisher:
        publisher.publish([Message(b"")])


async def test_a_plain_handler_sees_its_attempt_and_its_result_is_kept() -> None:
    seen: list[object] = []

    def handler(context: Context, params: dict[str, timedelta]) -> object:
        assert current_context() is context
        seen.extend((context.run_id, context.job, context.shard.index, context.shard.total, context.deadline, params))
        return {"at": NOW}

    outcome = await Given().outcome(handler, '{"a": 2}', timeout=timedelta(minutes=1))
    assert seen == ["run", "job", 0, 4, NOW + timedelta(minutes=1), {"a": timedelta(seconds=2)}]
    assert (outcome.state, outcome.result) == (OutcomeState.SUCCEEDED, '{"at":"2026-01-01T00:00:00Z"}')


async def test_an_async_handler_publishes_with_await() -> None:
    given = Given()

    async def handler(context: AsyncContext) -> int:
        async with context.publisher("t") as publisher:
            await publisher.publish([Message(b"a"), Message(b"b")])
        return 2

    outcome = await given.outcome(handler)
    assert (outcome.state, outcome.result, outcome.counters.published) == (OutcomeState.SUCCEEDED, "2", 2)
    assert given.opened == [KEY]


@pytest.mark.parametrize("give", [raising, returning])
@pytest.mark.parametrize(
    ("word", "state", "is_retryable", "after"),
    [
        (Retry("busy", after=2), OutcomeState.FAILED, True, timedelta(seconds=2)),
        (Retry(), OutcomeState.FAILED, True, None),
        (Fail("broken"), OutcomeState.FAILED, False, None),
        (Skip("holiday"), OutcomeState.SKIPPED, False, None),
    ],
)
async def test_a_handler_says_how_it_ends(
    give: Callable[[Exception], Callable[[], object]],
    word: Exception,
    state: OutcomeState,
    is_retryable: bool,
    after: timedelta | None,
) -> None:
    outcome = await Given().outcome(give(word))
    assert (outcome.state, outcome.is_retryable, outcome.retry_after) == (state, is_retryable, after)
    assert outcome.traceback == ""


async def test_any_other_error_is_a_failure_with_the_end_of_its_traceback() -> None:
    outcome = await Given().outcome(raising(KeyError("x" * 2 * MAX_TRACEBACK_BYTES)))
    assert (outcome.state, outcome.is_retryable, outcome.error_code) == (OutcomeState.FAILED, True, "KeyError")
    assert len(outcome.traceback.encode()) == MAX_TRACEBACK_BYTES
    assert outcome.traceback.endswith("xxx'\n")


class Unspeakable(Exception):
    """An error whose message cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("error", [ValueError("\udc80"), ValueError("x" * (20 << 20)), Unspeakable()])
async def test_whatever_an_error_says_its_outcome_can_be_told(error: Exception) -> None:
    told = outcome_of(await Given().outcome(raising(error)))
    assert told.error_code == type(error).__name__
    assert told.ByteSize() < 2 * MAX_TRACEBACK_BYTES


def led_to_by(causes: int) -> Exception:
    """As a loop makes it that tries again and raises each time from what went wrong before."""
    error: Exception = ValueError("the first")
    for number in range(causes):
        later = ValueError(number)
        later.__cause__, error = error, later
    return error


async def test_an_error_with_thousands_of_causes_has_an_outcome() -> None:
    outcome = await Given().outcome(raising(led_to_by(3_000)))
    assert (outcome.state, outcome.is_retryable, outcome.error_message) == (OutcomeState.FAILED, True, "2999")


@pytest.mark.parametrize(
    ("after", "milliseconds"), [(None, 0), (0, 1), (-5, 1), (2.5, 2_500), (timedelta(days=999), 2**32 - 1)]
)
async def test_a_wait_before_the_next_try_can_be_told(after: timedelta | float | None, milliseconds: int) -> None:
    outcome = await Given().outcome(raising(Retry(after=after)))
    assert outcome_of(outcome).retry_after_ms == milliseconds


async def test_what_a_handler_counts_goes_on_from_what_its_shard_had_counted() -> None:
    def handler(context: Context) -> None:
        context.count("sent", 5)
        context.count("sent")
        context.count("odd.ones-2", 0)

    outcome = await Given().outcome(handler, counts={"sent": 4, "failed": 1})
    assert outcome.counters.counts == {"sent": 10, "failed": 1, "odd.ones-2": 0}
    assert dict(outcome_of(outcome).counters.counts) == outcome.counters.counts


@pytest.mark.parametrize(
    ("name", "amount"), [("", 1), ("x y", 1), ("1st", 1), ("x" * 65, 1), ("a", -1), ("a", 0.5), ("a", 1 << 63), (7, 1)]
)
async def test_a_count_that_is_none_is_the_fault_of_the_handler(name: str, amount: int) -> None:
    outcome = await Given().outcome(lambda context: context.count(name, amount))
    assert (outcome.state, outcome.error_code) == (OutcomeState.FAILED, "invalid_argument")


async def test_a_shard_has_a_bounded_number_of_counts() -> None:
    def handler(context: Context) -> None:
        for number in range(MAX_COUNTS):
            context.count(f"c{number}")
        context.count("c0")
        context.count("more")

    outcome = await Given().outcome(handler)
    assert (outcome.error_code, len(outcome.counters.counts)) == ("invalid_argument", MAX_COUNTS)
    assert outcome.counters.counts["c0"] == 2


@pytest.mark.parametrize(("done", "total"), [(-1, 5), (0.5, 1), (1, 1 << 64), ("1", 2)])
async def test_progress_that_is_no_count_is_the_fault_of_the_handler(done: object, total: object) -> None:
    def handler(context: Context) -> None:
        context.progress(done, total)  # type: ignore[arg-type]

    outcome = await Given().outcome(handler)
    assert (outcome.state, outcome.error_code) == (OutcomeState.FAILED, "invalid_argument")
    assert outcome_of(outcome).counters.done == 0


async def test_a_result_is_json_also_where_a_number_is_none() -> None:
    outcome = await Given().outcome(returning({"rate": float("nan"), "most": float("inf")}))
    assert outcome.result == '{"rate":null,"most":null}'


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration()])
async def test_a_handler_that_wants_to_end_the_process_ends_itself(error: BaseException) -> None:
    def plain() -> None:
        raise error

    async def coroutine() -> None:
        raise error

    for handler in (plain, coroutine):
        outcome = await Given().outcome(handler)
        assert (outcome.state, outcome.is_retryable) == (OutcomeState.FAILED, True)
        assert type(error).__name__ in outcome.traceback


class Mute(BaseException):
    """No Exception, as those of some libraries, and it cannot even be told."""

    def __str__(self) -> str:
        raise ValueError("no")


async def test_an_error_of_any_kind_ends_an_attempt_even_if_it_cannot_be_told() -> None:
    def plain() -> None:
        raise Mute

    async def coroutine() -> None:
        raise Mute

    for handler in (plain, coroutine):
        async with asyncio.timeout(10):
            outcome = await Given().outcome(handler)
        assert (outcome.state, outcome.is_retryable) == (OutcomeState.FAILED, True)
        assert "Mute: its message cannot be shown" in outcome.error_message


async def test_what_a_handler_left_behind_cannot_publish_any_more() -> None:
    given = Given()
    contexts: list[AsyncContext] = []

    async def handler(context: AsyncContext) -> None:
        contexts.append(context)

    outcome = await given.outcome(handler)
    assert outcome.state is OutcomeState.SUCCEEDED
    with pytest.raises(Cancelled, match="has ended"):
        await contexts[0].publisher("t").publish([Message(b"")])


def too_large_row() -> None:
    fault = TooLarge(what="message", size=2, limit=1)
    raise RowFailed(table="users", scan="1", key=7, reason=str(fault)) from fault


@pytest.mark.parametrize(
    ("handler", "params", "code"),
    [
        (lambda params=None: None, "{", "bad_params"),
        (lambda: object(), "null", "bad_result"),
        (lambda: "x" * 70_000, "null", "bad_result"),
        (lambda: 10**5_000, "null", "bad_result"),
        (too_large_row, "null", "row_failed"),
    ],
)
async def test_what_another_try_cannot_mend_is_not_retryable(
    handler: Callable[..., object], params: str, code: str
) -> None:
    outcome = await Given().outcome(handler, params)
    assert (outcome.state, outcome.error_code, outcome.is_retryable) == (OutcomeState.FAILED, code, False)


async def test_an_unknown_handler_is_a_failure() -> None:
    assignment = Assignment(KEY, "job", "nobody", 1)
    outcome = await Attempt(Given().world(), assignment, 10.0).run()
    assert outcome is not None
    assert (outcome.error_code, outcome.is_retryable) == ("unknown_handler", False)


async def test_success_is_said_only_after_every_acknowledgement() -> None:
    given = Given(RefusingProducer(StaleTerm(producer_id="p", term=3, current="7")))

    def handler(context: Context) -> None:
        context.publisher("t").publish([Message(b"")])  # without the block that flushes

    outcome = await given.outcome(handler)
    assert (outcome.state, outcome.broker_term) == (OutcomeState.FENCED, 7)


@pytest.mark.parametrize("word", [Skip(), Fail("broken"), Retry()])
@pytest.mark.parametrize("is_raised", [True, False])
async def test_a_word_of_the_handler_counts_only_after_every_acknowledgement(word: Exception, is_raised: bool) -> None:
    given = Given(RefusingProducer(StaleTerm(producer_id="p", term=3, current="7")))

    def handler(context: Context) -> Exception:
        context.publisher("t").publish([Message(b"")])
        if is_raised:
            raise word
        return word

    assert (await given.outcome(handler)).state is OutcomeState.FENCED


async def test_a_fenced_attempt_says_so_however_deep_its_handler_buries_it() -> None:
    given = Given(RefusingProducer(StaleTerm(producer_id="p", term=3, current="7")))

    def handler(context: Context) -> None:
        try:
            publishing(context)
        except Exception as error:
            raise ExceptionGroup("many", [ValueError(), RuntimeError("wrapped")]) from error

    outcome = await given.outcome(handler)
    assert (outcome.state, outcome.broker_term, outcome.error_code) == (OutcomeState.FENCED, 7, "stale_term")


@pytest.mark.parametrize("pinned", [{"log": "another"}])
async def test_a_run_that_began_on_another_log_never_starts_over(pinned: dict[str, str]) -> None:
    given = Given(pins=pinned)
    outcome = await given.outcome(publishing)
    assert (outcome.error_code, outcome.is_retryable) == ("producer_unknown", False)
    assert given.producer.published == []


async def test_a_forgotten_producer_is_a_failure_without_retry() -> None:
    given = Given(RefusingProducer(ProducerUnknown(producer_id="p", reason="forgotten")))
    outcome = await given.outcome(publishing)
    assert (outcome.state, outcome.error_code, outcome.is_retryable) == (
        OutcomeState.FAILED,
        "producer_unknown",
        False,
    )


async def test_an_assignment_carries_its_pins() -> None:
    given = Given()
    outcome = await given.outcome(publishing, pins={"log": "another"})
    assert outcome.error_code == "producer_unknown"
    assert given.pins == {}


@pytest.mark.parametrize(
    ("why", "state"), [(Why.CANCELLED, OutcomeState.CANCELLED), (Why.RELEASED, OutcomeState.RELEASED)]
)
async def test_a_plain_handler_stops_at_its_next_publish(why: Why, state: OutcomeState) -> None:
    given, publishes = Given(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def handler(context: Context) -> None:
        with context.publisher("t") as publisher:
            while True:
                publisher.publish([Message(b"")])
                loop.call_soon_threadsafe(publishes.set)

    attempt = given.attempt(handler)
    running = asyncio.create_task(attempt.run())
    await publishes.wait()
    attempt.cancellation.request(why, "enough")
    outcome = await running
    assert outcome is not None
    assert (outcome.state, outcome.error_message) == (state, "The attempt was stopped: enough.")
    assert outcome.counters.published == len(given.producer.published)


async def test_an_order_to_stop_reaches_a_handler_that_waits_for_the_broker() -> None:
    attempt = Given(DeafProducer()).attempt(publishing)
    running = asyncio.create_task(attempt.run())
    await asyncio.sleep(0)
    attempt.cancellation.request(Why.CANCELLED, "by hand")
    outcome = await running
    assert outcome is not None
    assert outcome.state is OutcomeState.CANCELLED


async def test_an_async_handler_is_cancelled_where_it_waits() -> None:
    began = asyncio.Event()

    async def handler() -> None:
        began.set()
        await asyncio.Event().wait()

    attempt = Given().attempt(handler)
    running = asyncio.create_task(attempt.run())
    await began.wait()
    attempt.cancellation.request(Why.CANCELLED, "by hand")
    outcome = await running
    assert outcome is not None
    assert outcome.state is OutcomeState.CANCELLED


async def test_a_timeout_is_a_failure_that_may_be_retried() -> None:
    async def handler() -> None:
        await asyncio.Event().wait()

    outcome = await Given().outcome(handler, timeout=timedelta(milliseconds=10))
    assert (outcome.state, outcome.error_code, outcome.is_retryable) == (
        OutcomeState.FAILED,
        "attempt_timed_out",
        True,
    )


async def test_what_an_attempt_found_after_its_lease_lapsed_is_discarded() -> None:
    given = Given()

    def handler() -> None:
        given.time = 10.0  # as if the process had been stopped meanwhile

    assert await given.attempt(handler).run() is None


async def test_a_lapsed_lease_does_not_come_back() -> None:
    given = Given()
    attempt = given.attempt(returning(None))
    given.time = 10.0
    attempt.cancellation.extend(20.0)
    assert attempt.cancellation.has_lapsed
    with pytest.raises(Cancelled):
        attempt.cancellation.check()
