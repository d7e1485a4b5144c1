"""What keeps the limits, as Limits needs it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from executor.limits.rules import Answer, Cap, Claiming, Rate, Taken


class Store(Protocol):
    """Keeps states by name for all that share it, as executor.limits.rules says; a call changes all names or none.

    Each call blocks, and raises LimitsUnreachable. Names are short printable ASCII, and no call has a name twice.
    """

    def claim(self, names: Sequence[str], ask: Claiming) -> Mapping[str, Answer]: ...

    def finish(self, names: Sequence[str], holder: str, window_us: int) -> Mapping[str, bool]: ...

    def release(self, names: Sequence[str], holder: str) -> Mapping[str, bool]: ...

    def take(self, times: Mapping[str, int], n: int, rate: Rate) -> Mapping[str, Taken]: ...

    def count(self, attempts: Mapping[str, int], cap: Cap) -> Mapping[str, int]: ...

    def close(self) -> None: ...
