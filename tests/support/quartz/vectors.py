"""The recorded answers of Quartz, one a line: zone, after, expression, and the steps from one fire time to the next."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from tests.support.quartz.expressions import ZONES

TARGET = Path(__file__).with_name("fires.txt.gz")
REFUSED, HANGS = "refused", "hangs"


@dataclass(frozen=True, slots=True)
class Vector:
    """A question and its answer: fire times in seconds since 1970, "refused" or "hangs"."""

    zone: str
    after: int
    expression: str
    answer: str

    @property
    def fires(self) -> list[int]:
        return [int(fire) for fire in self.answer.split()]


def line_of(vector: Vector) -> str:
    answer = vector.answer
    if answer not in (REFUSED, HANGS):
        answer = " ".join(str(b - a) for a, b in pairwise([vector.after, *vector.fires]))
    return f"{ZONES.index(vector.zone)}|{vector.after}|{vector.expression}|{answer}\n"


def vectors() -> Iterator[Vector]:
    for line in gzip.decompress(TARGET.read_bytes()).decode().splitlines():
        zone, after, expression, answer = line.split("|")
        if answer not in (REFUSED, HANGS):
            fires = accumulate(map(int, answer.split()), initial=int(after))
            answer = " ".join(map(str, list(fires)[1:]))
        yield Vector(ZONES[int(zone)], int(after), expression, answer)
