"""A blocking consumer whose thread is interrupted while it waits, as by a signal for a timeout, passes nothing over."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

import shardcast
from broker.testing import running_broker


class TimeIsUp(Exception):
    """The timer went off."""


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """By a signal in the midst of whatever the block does."""

    def interrupt(*_: object) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("mode", ["offset", "lease"])
def test_what_comes_behind_an_interruption_is_for_who_asks_next(tmp_path: Path, mode: str) -> None:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running_broker(tmp_path)) as endpoint,
        shardcast.Producer(endpoint) as producer,
    ):
        consumer = shardcast.Consumer(endpoint, "readers", ["t"], mode=mode)  # type: ignore[arg-type]
        with consumer:
            for body in (b"1", b"2"):
                for _ in range(2):
                    with pytest.raises(TimeIsUp), interrupted(0.1):
                        next(consumer)
                producer.publish("t", shardcast.Message(body))
                with interrupted(20.0):
                    assert [message.body for message in next(consumer)] == [body]
            with pytest.raises(TimeIsUp), interrupted(0.1):
                next(consumer)
        with consumer, interrupted(20.0):  # what was asked for before is void
            assert next(consumer)[0].body == b"1"
