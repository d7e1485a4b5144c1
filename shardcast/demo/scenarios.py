"""Scenarios: demonstrations that installed packages offer under the entry points `shardcast.scenarios`.

A scenario is an async function of a Stage that returns a ScenarioReport.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias

from protos.errors import InvalidArgument
from shardcast.demo.report import as_json, as_lines

ENTRY_POINTS = "shardcast.scenarios"


@dataclass(frozen=True, slots=True)
class Stage:
    """What a scenario is told: how many users, where everything is kept, how many processes, whether to kill some.

    `show` is told how many messages are published and how many delivered, of how many.
    """

    users: int
    data: Path
    shards: int
    executors: int
    consumers: int
    deliveries: Path | None
    is_chaotic: bool
    show: Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class ScenarioReport:
    """`fields` by name, and whether everything came out exactly as it should."""

    fields: Mapping[str, object]
    is_exact: bool

    def as_json(self) -> str:
        return as_json(self.fields)

    def as_lines(self) -> str:
        return as_lines(self.fields)


Scenario: TypeAlias = Callable[[Stage], Coroutine[None, None, ScenarioReport]]


def load(name: str) -> Scenario:
    """Raises InvalidArgument, which names those that there are, or says why it cannot be loaded."""
    known = entry_points(group=ENTRY_POINTS)
    if name not in known.names:
        told = ", ".join(sorted(known.names)) or "none that is installed"
        raise InvalidArgument(reason=f"There is no scenario {name}; there is {told}.")
    try:
        scenario: Scenario = known[name].load()
    except (ImportError, AttributeError) as error:
        raise InvalidArgument(reason=f"The scenario {name} is not installed whole: {error}.") from error
    return scenario
