"""Which admin is dialled next, and how soon."""

from collections.abc import Callable, Sequence

from protos.errors import ShardcastError, Unreachable

FIRST_WAIT_SECONDS = 0.1
MAX_WAIT_SECONDS = 3.0
MAX_DOUBLINGS = 10
STANDING_SECONDS = 1.0  # a link that broke sooner was in vain
WELCOME_SECONDS = 5.0
HASTY_WELCOME_SECONDS = 1.0  # where others wait to be asked


class Admins:
    """Admins in an order of chance, so that executors spread over them; one is kept until it fails."""

    def __init__(self, addresses: Sequence[str], chance: Callable[[], float]) -> None:
        self._addresses = sorted(addresses, key=lambda _: chance())
        self._chance = chance
        self._current = 0
        self._failures = 0  # in a row
        self._refusals: dict[str, ShardcastError] = {}

    @property
    def current(self) -> str:
        return self._addresses[self._current]

    @property
    def are_several(self) -> bool:
        return len(self._addresses) > 1

    @property
    def refusal(self) -> ShardcastError | None:
        """Why this executor is not let in, if that is what all of them said last."""
        return self._refusals[self.current] if len(self._refusals) == len(self._addresses) else None

    @property
    def welcome_seconds(self) -> float:
        """How long the current one may take to welcome; longer once nobody was quicker."""
        is_hasty = self.are_several and self._failures < len(self._addresses)
        return HASTY_WELCOME_SECONDS if is_hasty else WELCOME_SECONDS

    @property
    def pause_seconds(self) -> float:
        """How long to wait before the current one is dialled: not at all until all were tried in vain, then longer and
        longer behind each round."""
        rounds, rest = divmod(self._failures, len(self._addresses))
        if rest or not rounds:
            return 0.0
        wait = FIRST_WAIT_SECONDS * 2.0 ** min(rounds - 1, MAX_DOUBLINGS)
        return min(wait, MAX_WAIT_SECONDS) * (0.5 + self._chance() / 2)

    def stood(self, seconds: float) -> None:
        """The link to the current one stood for so long."""
        if seconds >= STANDING_SECONDS:
            self._failures = 0

    def leave(self, refusal: ShardcastError | None = None) -> None:
        """The current one failed, or refuses this executor: the next one's turn."""
        self._refusals.pop(self.current, None)
        if refusal is not None:
            self._refusals[self.current] = refusal
        self._failures += 1
        self._current = (self._current + 1) % len(self._addresses)

    def unreachable(self) -> Unreachable:
        return Unreachable(address=", ".join(sorted(self._addresses)))
