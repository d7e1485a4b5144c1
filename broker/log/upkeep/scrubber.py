"""Looks for damage in what nobody reads: each finished segment is read once after a start, slowly, and sealed."""

from collections.abc import Callable, Iterator

from broker.errors import LogDamaged
from broker.log.commit_log import CommitLog
from broker.log.frame import Frame
from broker.log.recovery import inspect, verify
from broker.log.segment import Segment
from broker.log.upkeep.background import Wait

LOOK_EVERY_SECONDS = 60.0
BYTES_PER_SECOND = 64 << 20  # a small part of what a disk reads, so that nobody feels it
_STEP_BYTES = 8 << 20  # read between two waits


class Scrubber:
    """One segment at a time; `report` is called with whatever is damaged."""

    def __init__(self, log: CommitLog, report: Callable[[LogDamaged], None]) -> None:
        self._log = log
        self._report = report
        self._checked = 0  # every segment that begins before this position was read
        self._damages: tuple[LogDamaged, ...] = ()

    @property
    def damages(self) -> tuple[LogDamaged, ...]:
        """All that was found since the start; from any thread."""
        return self._damages

    def run(self, wait: Wait) -> None:
        """Until it is time to end."""
        while True:
            self.run_once(wait)
            if wait(LOOK_EVERY_SECONDS):
                return

    def run_once(self, wait: Wait) -> int:
        """Reads the finished segments that were not read yet, and returns how many; ends early if it is time to."""
        read = 0
        for segment in self._log.segments[:-1]:
            if segment.start >= self._checked:
                if not self._scrub(segment, wait):
                    break
                self._checked = segment.end
                read += 1
        return read

    def _scrub(self, segment: Segment, wait: Wait) -> bool:
        pace = _Pace(segment, wait)
        try:
            verified = verify(segment, pace.inspect())
            damages = verified.damages
            if not damages and not pace.is_ended and segment.read_seal() is None:
                segment.seal(verified.seal)
        except OSError as error:  # what cannot be read, or sealed, is told like what is wrong
            damages = [LogDamaged(position=segment.start, path=segment.path, reason=str(error))]
        if not pace.is_ended and any(stored is segment for stored in self._log.segments):  # not deleted meanwhile
            self._damages += (*damages,)
            for damage in damages:
                self._report(damage)
        return not pace.is_ended


class _Pace:
    """What `inspect` finds in a segment, no faster than is allowed."""

    def __init__(self, segment: Segment, wait: Wait) -> None:
        self.is_ended = False
        self._segment = segment
        self._wait = wait

    def inspect(self) -> Iterator[Frame | LogDamaged]:
        rested_at = self._segment.start
        for found in inspect(self._segment):
            yield found
            if isinstance(found, Frame) and found.end - rested_at >= _STEP_BYTES:
                self.is_ended = self._wait((found.end - rested_at) / BYTES_PER_SECOND)
                rested_at = found.end
                if self.is_ended:
                    return
