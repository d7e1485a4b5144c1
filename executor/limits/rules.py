"""What becomes of a claim, a bucket and a cap when somebody asks: plain functions over frozen states.

A state is None where there is none or it has expired. Each function gives the answer and the new state, None where the
old one stays. Instants and durations are whole microseconds, by the store's clock.
"""

import enum
from dataclasses import dataclass


class Standing(enum.Enum):
    """Whose a key is."""

    OURS = enum.auto()
    DONE = enum.auto()
    HELD = enum.auto()  # somebody else's, who is at work


@dataclass(frozen=True, slots=True)
class Claim:
    """A key of `once`. Behind `lapses_at_us` it is unknown what became of a holder that has not finished."""

    holder: str  # "" once it is done
    lapses_at_us: int
    expires_at_us: int


@dataclass(frozen=True, slots=True)
class Claiming:
    """How keys are claimed."""

    holder: str
    claim_us: int
    window_us: int
    is_repeated: bool  # a claim that has lapsed is taken over, else its key counts as done


@dataclass(frozen=True, slots=True)
class Answer:
    """Whose a key is, and for how long yet where it is somebody else's."""

    standing: Standing
    lapses_in_us: int = 0


def claimed(old: Claim | None, now: int, ask: Claiming) -> tuple[Answer, Claim | None]:
    """Somebody wants to be the one who does it."""
    is_free = old is None or old.holder == ask.holder  # the latter: asked again, the first answer was lost
    if old is not None and old.holder and not is_free:
        if now < old.lapses_at_us:
            return Answer(Standing.HELD, old.lapses_at_us - now), None
        is_free = ask.is_repeated
    if is_free:
        return Answer(Standing.OURS), Claim(ask.holder, now + ask.claim_us, now + ask.window_us)
    return Answer(Standing.DONE), None


def finished(old: Claim | None, now: int, holder: str, window_us: int) -> tuple[bool, Claim | None]:
    """The holder has done it; False where the claim is another's by now."""
    if old is not None and old.holder != holder:
        return False, None
    return True, Claim("", now, now + window_us)


def released(old: Claim | None, now: int, holder: str) -> tuple[bool, Claim | None]:
    """The holder gives it back; False where the claim is another's by now."""
    if old is None or old.holder != holder:
        return False, None
    return True, Claim("", now, now)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of permits, told by the instant at which it is full again."""

    full_at_us: int
    expires_at_us: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A permit comes each `interval_us`; a full bucket has `burst` of them."""

    interval_us: int
    burst: int

    @property
    def fills_in_us(self) -> int:
        return self.interval_us * self.burst


@dataclass(frozen=True, slots=True)
class Taken:
    """How many of several takes were granted, and how long the next one has to wait."""

    granted: int
    wait_us: int


def taken(old: Bucket | None, now: int, rate: Rate, n: int, times: int) -> tuple[Taken, Bucket | None]:
    """Somebody wants `n` permits, `times` times over. A bucket is never emptier than empty, whatever the clock did."""
    full_at = now if old is None else min(max(old.full_at_us, now), now + rate.fills_in_us)
    step = n * rate.interval_us
    granted = min(times, (now + rate.fills_in_us - full_at) // step)
    full_at += granted * step
    wait = max(0, full_at + step - rate.fills_in_us - now)
    return Taken(granted, wait), Bucket(full_at, full_at) if granted else None


@dataclass(frozen=True, slots=True)
class Hits:
    """The instants that count against a cap, rising, as text with spaces between."""

    hits: str
    expires_at_us: int


@dataclass(frozen=True, slots=True)
class Cap:
    """At most so many hits in any window."""

    most: int
    window_us: int


def counted(old: Hits | None, now: int, cap: Cap, attempts: int) -> tuple[int, Hits | None]:
    """Somebody wants to hit so many times; tells how many of these are allowed. Those alone count."""
    hits = [] if old is None else [at for at in map(int, old.hits.split()) if at > now - cap.window_us]
    allowed = max(0, min(attempts, cap.most - len(hits)))
    if not allowed:
        return 0, None
    at = max([now, *hits[-1:]])  # rising, also when the clock went back
    hits += [at] * allowed
    return allowed, Hits(" ".join(map(str, hits)), at + cap.window_us)
