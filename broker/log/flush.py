"""Group commit: one thread takes everything that waits and does it as one group, so that all share one sync."""

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")

SIBLINGS = 5  # in one group; fewer are no sign that many small ones are under way
GATHER_SECONDS = 0.001
MOST_GATHERS = 4  # 256 publishes in flight then share a sync by more than twenty, for a tenth less CPU each


class GroupCommit(Generic[Item]):
    """Runs `commit` over groups of items, in the order in which they came, in a thread of its own.

    A group smaller than the one before waits for `GATHER_SECONDS` if that one had `SIBLINGS`, because who was answered
    just now is about to ask again, and waits again while each wait brings more, `MOST_GATHERS` times at the most; the
    few who publish one at a time, or large batches, never wait. (These are PostgreSQL's commit_delay and
    commit_siblings.) An exception means that memory and disk may differ from here on:
    `die` is called, and must not return.
    """

    def __init__(
        self,
        commit: Callable[[list[Item]], None],
        die: Callable[[BaseException], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._commit = commit
        self._die = die
        self._sleep = sleep
        self._items: SimpleQueue[Item | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="broker-writer", daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> None:
        """From any thread; never blocks."""
        self._items.put(item)

    def stop(self) -> None:
        """Returns when everything submitted before is done."""
        self._items.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open, last = True, 1
        while is_open:
            taken = self._take(last)
            last = len(taken)
            is_open = taken[-1] is not None
            group = [item for item in taken if item is not None]
            try:
                if group:
                    self._commit(group)
            except BaseException as error:
                self._die(error)
                return

    def _take(self, last: int) -> list[Item | None]:
        """Waits for one item, then takes all that are there, up to the one that ends it."""
        taken, before = [self._items.get()], 0
        self._take_more(taken)
        for _ in range(MOST_GATHERS):
            if not (SIBLINGS <= last > len(taken) > before) or taken[-1] is None:
                break
            before = len(taken)
            self._sleep(GATHER_SECONDS)
            self._take_more(taken)
        return taken

    def _take_more(self, taken: list[Item | None]) -> None:
        while taken[-1] is not None:
            try:
                taken.append(self._items.get_nowait())
            except Empty:
                break
