"""Loops that block, each in a thread of its own, so that none of them ever holds up the event loop or the writer."""

from collections.abc import Callable
from threading import Event, Thread

Wait = Callable[[float], bool]
"""Returns after so many seconds, or at once and true when it is time to end."""


class Background:
    """Threads that run until `stop`. An exception in one means that the disk cannot be relied upon: `die` is called."""

    def __init__(self, die: Callable[[BaseException], None]) -> None:
        self._die = die
        self._stopping = Event()
        self._threads: list[Thread] = []

    def start(self, name: str, run: Callable[[Wait], None]) -> None:
        """Calls the function in a new thread; it returns soon after the wait that it is given was true."""
        thread = Thread(target=self._run, args=(run,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Returns when all have ended."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, run: Callable[[Wait], None]) -> None:
        try:
            run(self._stopping.wait)
        except BaseException as error:
            self._die(error)
