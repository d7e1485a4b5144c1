"""The demo's report: a line per field, or one JSON line."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """Seconds count from the trigger's run being started: to its end (publish) and to the last call (deliver). `kills`
    are those of the kill switch by kind of daemon; None: it was off."""

    audience: int
    published: int
    delivered: int
    missing: int
    duplicates: int
    unexpected: int
    shards: int
    executors: int
    publish_seconds: float
    deliver_seconds: float
    messages_per_second: int
    peak_rss_mb: dict[str, float]
    run_id: str
    kills: Mapping[str, int] | None

    @property
    def is_exact(self) -> bool:
        return not (self.missing or self.duplicates or self.unexpected)

    def as_json(self) -> str:
        return as_json(self._fields())

    def as_lines(self) -> str:
        return as_lines(self._fields())

    def _fields(self) -> Mapping[str, object]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def as_json(fields: Mapping[str, object]) -> str:
    """One line."""
    return json.dumps(fields)


def as_lines(fields: Mapping[str, object]) -> str:
    """`name value` a line; what has parts, such as the memory by daemon, a line for each part."""
    lines = []
    for name, value in fields.items():
        parts = (
            {f"{name}_{part}": each for part, each in value.items()} if isinstance(value, Mapping) else {name: value}
        )
        lines += [f"{each} {told}" for each, told in parts.items()]
    return "\n".join(lines)
