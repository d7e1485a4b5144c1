"""Records what Quartz answers: `python -m tests.support.quartz.record QUARTZ_JAR SLF4J_JAR`, with a JDK on the path.

The answers that are kept come from Quartz 2.3.2 (of Debian: libquartz2-java), run in 2026; no part of Quartz is kept.
"""

import gzip
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.support.quartz.expressions import FIRES, questions
from tests.support.quartz.vectors import TARGET, Vector, line_of

SEED, COUNT = 20261128, 8000


def record(jars: Sequence[str], asked: Iterable[tuple[str, int, str]]) -> list[Vector]:
    asked = list(asked)
    lines = "".join(f"{zone}|{after}|{FIRES}|{expression}\n" for zone, after, expression in asked)
    source = Path(__file__).with_name("Fires.java")
    command = ["java", "-cp", ":".join(jars), str(source)]
    answers = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    return [Vector(*question, answer) for question, answer in zip(asked, answers, strict=True)]


def main() -> None:
    found = record(sys.argv[1:], questions(SEED, COUNT))
    text = "".join(map(line_of, found))
    TARGET.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{len(found)} answers, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
