"""How far a shard has come: the cursor that is kept beside its messages, and the one that a batch carries."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from executor.errors import BadCursor, CheckpointOrder

Key = int | str


@dataclass(frozen=True, slots=True)
class Position:
    """Where a scan stands: behind the key `after` (None: at its beginning), or at its end."""

    after: Key | None = None
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class Cursor:
    """What rows of a scan carry: publishing under it says that the scan is done up to and including them.

    They are the rows from `first` up to, not including, `last`, counted from 0 as this attempt was given them.
    """

    scan: str
    first: int
    last: int
    position: Position  # behind the last of them
    rows: int  # of this shard handed out up to here, all scans and earlier attempts together

    def part(self, start: int, stop: int, position: Position) -> "Cursor":
        """Of these rows only those from `start` up to, not including, `stop`; `position` is behind the last of them."""
        last = self.first + stop
        return Cursor(self.scan, self.first + start, last, position, self.rows - (self.last - last))

    def join(self, following: "Cursor") -> "Cursor":
        """Of these rows and those behind them. Raises CheckpointOrder for others than the next ones."""
        following.check_follows(self.scan, self.last)
        return replace(following, first=self.first)

    def check_follows(self, scan: str, rows: int) -> None:
        """Raises CheckpointOrder unless these are the next rows of the scan behind so many."""
        if (self.scan, self.first) != (scan, rows):
            raise CheckpointOrder(scan=self.scan, first=self.first, last=self.last - 1, expected=rows)


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
