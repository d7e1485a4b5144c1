"""How far a shard has come: the cursor that is kept beside its messages, and the one that a batch carries."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from executor.errors import BadCursor

Key = int | str


@dataclass(frozen=True, slots=True)
class Position:
    """Where a scan stands: behind the key `after` (None: at its beginning), or at its end."""

    after: Key | None = None
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a batch carries: publishing under it says that the scan is done up to and including this batch."""

    scan: str
    number: int  # of the batch within its scan and attempt, from 1
    position: Position
    rows: int  # of this shard handed out up to here, all scans and earlier attempts together


@dataclass(frozen=True, slots=True)
class ShardCursor:
    """What the broker keeps for the shard: all its scans together, and what is counted over all attempts."""

    rows: int = 0
    published: int = 0
    scans: Mapping[str, Position] = field(default_factory=dict)

    def encode(self) -> bytes:
        scans = {name: _position_to_json(position) for name, position in self.scans.items()}
        content = {"rows": self.rows, "published": self.published, "scans": scans}
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes | None) -> "ShardCursor":
        """The one of a shard that never published is empty. Raises BadCursor."""
        if data is None:
            return cls()
        try:
            content = json.loads(data)
            scans = {str(name): _position_from_json(entry) for name, entry in content["scans"].items()}
            return cls(int(content["rows"]), int(content["published"]), scans)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadCursor(reason=f"{type(error).__name__}: {error}") from error


def _position_to_json(position: Position) -> dict[str, object]:
    return {"done": True} if position.is_done else {"after": position.after}


def _position_from_json(entry: Mapping[str, object]) -> Position:
    if entry.get("done") is True:
        return Position(is_done=True)
    after = entry["after"]
    if isinstance(after, bool) or not isinstance(after, int | str):
        raise TypeError("a scan stands behind an integer or a text")
    return Position(after)
