"""What is read back when a log is opened: which frames are whole, and where a crash tore the last write."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from broker.errors import LogDamaged
from broker.log.frame import HEADER, MAGIC_BYTES, MAGIC_OFFSET, Frame, decode_frame, frame_length
from broker.log.segment import Segment

_READ_AHEAD = 4 << 20


def check_chain(segments: Sequence[Segment], checked: int) -> None:
    """Raises LogDamaged if bytes are missing between segments or behind what is known to have been durable."""
    for before, after in pairwise(segments):
        if before.end != after.start:
            raise LogDamaged(position=before.end, path=before.path, reason=f"the next segment begins at {after.start}")
    first, last = segments[0], segments[-1]
    if last.end < checked:
        raise LogDamaged(position=last.end, path=last.path, reason=f"it had been durable up to {checked}")
    if first.start > checked:
        raise LogDamaged(position=checked, path=first.path, reason=f"it begins at {first.start}")


def read_frames(segment: Segment, position: int) -> Iterator[Frame]:
    """Whole frames from `position` on, up to the first that is not."""
    buffer, buffer_at = b"", position
    while position < segment.end:
        offset = position - buffer_at
        length = frame_length(buffer[offset : offset + HEADER.size])
        if not length or offset + length > len(buffer):
            size = min(max(length, _READ_AHEAD), segment.end - position)  # a length that is not sound may be anything
            buffer, buffer_at, offset = segment.read(position, size), position, 0
            length = frame_length(buffer[: HEADER.size])
            if length > len(buffer):
                buffer = segment.read(position, min(length, segment.end - position))
        frame = decode_frame(buffer[offset : offset + length], position) if length else None
        if frame is None:
            return
        yield frame
        position = frame.end


def cut_torn_tail(segment: Segment, position: int, *, is_last: bool) -> None:
    """Drops what follows the last whole frame; raises LogDamaged if that cannot be a write that a crash tore."""
    if position == segment.end:
        return
    if not is_last:
        raise LogDamaged(position=position, path=segment.path, reason="a frame is not whole, and segments follow it")
    if any(frame.durable > position for frame in _stray_frames(segment, position)):
        raise LogDamaged(position=position, path=segment.path, reason="a frame is not whole that had been acknowledged")
    segment.cut(position)


def _stray_frames(segment: Segment, position: int) -> Iterator[Frame]:
    """Whole frames anywhere behind `position`, found by their magic and sure by their position and checksum."""
    rest = segment.read(position, segment.end - position)
    at = rest.find(MAGIC_BYTES)
    while at >= 0:
        start = at - MAGIC_OFFSET
        if start >= 0:
            frame = decode_frame(
                rest[start : start + frame_length(rest[start : start + HEADER.size])], position + start
            )
            if frame is not None:
                yield frame
        at = rest.find(MAGIC_BYTES, at + 1)
