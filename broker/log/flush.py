"""Group commit: one thread takes everything that waits and does it as one group, so that all share one sync."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")


class GroupCommit(Generic[Item]):
    """Runs `commit` over groups of items, in the order in which they came, in a thread of its own.

    An exception means that memory and disk may differ from here on: `die` is called, and must not return.
    """

    def __init__(self, commit: Callable[[list[Item]], None], die: Callable[[BaseException], None]) -> None:
        self._commit = commit
        self._die = die
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
        is_open = True
        while is_open:
            taken = self._take()
            is_open = taken[-1] is not None
            group = [item for item in taken if item is not None]
            try:
                if group:
                    self._commit(group)
            except BaseException as error:
                self._die(error)
                return

    def _take(self) -> list[Item | None]:
        """Waits for one item, then takes all that are there, up to the one that ends it."""
        taken = [self._items.get()]
        while taken[-1] is not None:
            try:
                taken.append(self._items.get_nowait())
            except Empty:
                break
        return taken
