"""Writes docs/errors.md from the error classes: `python -m tests.support.error_table`, run by `make docs`."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import admin
import broker
import executor
import protos
import shardcast
from protos.errors import ShardcastError
from protos.exits import exit_code_of

TARGET = Path(__file__).parents[2] / "docs" / "errors.md"
HOUSES = (protos, broker, admin, executor, shardcast)
HEAD = """# Errors

Every error has a stable code, the same in REST (`code` of problem+json), gRPC (trailing metadata `shardcast-code`), the
SDK (`error.code`) and logs. The exit code is what the command line ends with. Words in braces are fields of the error.
Made from the classes by `make docs`.

| code | gRPC status | exit code | sentence |
|---|---|---|---|
"""


def table() -> str:
    """The text of docs/errors.md."""
    return HEAD + "".join(f"{row}\n" for row in sorted(map(_row, _classes())))


def _classes() -> Iterator[type[ShardcastError]]:
    for house in HOUSES:
        for module in pkgutil.walk_packages(house.__path__, f"{house.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    waiting = [ShardcastError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if "code" in vars(kind) and kind.__module__.partition(".")[0] in {house.__name__ for house in HOUSES}:
            yield kind


def _row(kind: type[ShardcastError]) -> str:
    first, _, _ = (kind.__doc__ or "").partition("\n\n")
    exit_code = int(exit_code_of(kind("")))
    return f"| `{kind.code}` | {kind.status.name} | {exit_code} | {' '.join(first.split())} |"


if __name__ == "__main__":
    TARGET.write_text(table())
