"""The demo's report: a line per field, or one JSON line."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """Seconds count from the trigger's run being started: to its end (publish) and to the last call (deliver)."""

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

    @property
    def is_exact(self) -> bool:
        return not (self.missing or self.duplicates or self.unexpected)

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    def as_lines(self) -> str:
        """`name value` a line; memory a line per daemon."""
        fields = asdict(self)
        memory = fields.pop("peak_rss_mb")
        fields |= {f"peak_rss_mb_{kind}": value for kind, value in memory.items()}
        return "\n".join(f"{name} {value}" for name, value in fields.items())
