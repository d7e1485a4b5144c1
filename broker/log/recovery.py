"""What is read back of a log: which frames are whole, where a crash tore the last write, and what is damaged."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from broker.errors import LogDamaged
from broker.log.frame import HEADER, MAGIC_BYTES, MAGIC_OFFSET, Frame, decode_frame, frame_length
from broker.log.segment import Seal, Segment

_READ_AHEAD = 4 << 20


def check_chain(segments: Sequence[Segment], checked: int) -> None:
    """Raises LogDamaged if bytes are missing between segments or behind what is known to have been durable.

    Looks at sizes and seals alone: reads nothing of the segments.
    """
    for segment in segments:
        seal = segment.read_seal()
        if seal is not None and seal.end != segment.end:
            reason = f"the file ends at {segment.end}, and ended at {seal.end} when it was sealed"
            raise LogDamaged(position=min(seal.end, segment.end), path=segment.path, reason=reason)
    for before, after in pairwise(segments):
        if before.end != after.start:
            raise LogDamaged(position=before.end, path=before.path, reason=f"the next segment begins at {after.start}")
    first, last = segments[0], segments[-1]
    if last.read_seal() is not None:
        raise LogDamaged(position=last.end, path=last.path, reason="it is sealed, and no segment follows it")
    if last.end < checked:
        raise LogDamaged(position=last.end, path=last.path, reason=f"it had been durable up to {checked}")
    if first.start > checked:
        reason = f"the log begins at {first.start} by now: the checkpoint is missing, or older than the log"
        raise LogDamaged(position=checked, path=first.path, reason=reason)


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
    for at in _magics(segment, position + MAGIC_OFFSET):
        start = at - MAGIC_OFFSET
        length = frame_length(segment.read(start, HEADER.size))
        frame = decode_frame(segment.read(start, length), start) if length <= segment.end - start else None
        if frame is not None:
            yield frame


def _magics(segment: Segment, position: int) -> Iterator[int]:
    """Where in the log the magic of frames is written from `position` on."""
    while chunk := segment.read(position, _READ_AHEAD):
        found = chunk.find(MAGIC_BYTES)
        while found >= 0:
            yield position + found
            found = chunk.find(MAGIC_BYTES, found + 1)
        position += max(len(chunk) - len(MAGIC_BYTES) + 1, len(MAGIC_BYTES))


def inspect(segment: Segment) -> Iterator[Frame | LogDamaged]:
    """Everything that the segment holds: whole frames, and each stretch that is none."""
    position = segment.start
    while position < segment.end:
        for frame in read_frames(segment, position):
            yield frame
            position = frame.end
        if position < segment.end:
            yield LogDamaged(position=position, path=segment.path, reason="a frame is not whole")
            following = next(_stray_frames(segment, position + 1), None)
            position = segment.end if following is None else following.position


@dataclass(frozen=True, slots=True)
class Verified:
    """A segment read whole: the seal that fits its frames, and all that is damaged."""

    seal: Seal
    damages: Sequence[LogDamaged]


def verify(segment: Segment, found: Iterable[Frame | LogDamaged] | None = None) -> Verified:
    """Reads all of a finished segment, or takes what `inspect` finds of it, and holds it against its seal."""
    frames, checksum, first, last, damages = 0, 0, 0, 0, list[LogDamaged]()
    for item in inspect(segment) if found is None else found:
        if isinstance(item, LogDamaged):
            damages.append(item)
        else:
            frames += 1
            checksum = zlib.crc32(item.crc.to_bytes(4, "little"), checksum)
            first, last = min(first or item.stored_at_ms, item.stored_at_ms), max(last, item.stored_at_ms)
    seal, stored = Seal(segment.end, frames, checksum, first, last), segment.read_seal()
    if not damages and stored is not None and stored != seal:
        damages.append(LogDamaged(position=segment.start, path=segment.path, reason="it differs from its seal"))
    return Verified(seal, damages)
