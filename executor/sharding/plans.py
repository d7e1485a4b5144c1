"""The plans that this process knows: what many of a run's shards need at once is made by one of them."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MAX_KEPT = 256  # the run's pins tell older ones again


@dataclass(slots=True)
class Turn:
    """One scan's plan as text, as the run keeps it; None: it is to be made."""

    plan: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Plans:
    """Lets the threads of a run have a scan's plan one after the other."""

    def __init__(self) -> None:
        self._turns: OrderedDict[tuple[str, str], Turn] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, run_id: str, name: str) -> Iterator[Turn]:
        """Waits for one's turn; where making the plan failed, the next one tries."""
        with self._lock:
            turn = self._turns.setdefault((run_id, name), Turn())
            self._turns.move_to_end((run_id, name))
            if len(self._turns) > MAX_KEPT:
                self._turns.popitem(last=False)
        with turn.lock:
            yield turn
