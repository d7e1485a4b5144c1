"""How far a shard has come: the cursor that is kept beside its messages, and the one that a batch carries."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from executor.errors import BadCursor, CheckpointOrder
from executor.sharding.keys import Key, key_from_json, key_to_json


@dataclass(frozen=True, slots=True)
class Position:
    """Where a scan stands: behind the key `after` (None: at its beginning), or at its end.

    A scan that goes bucket by bucket stands in one of them.
    """

    after: Key | None = None
    bucket: int | None = None
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
    if position.is_done:
        return {"done": True}
    bucket: dict[str, object] = {} if position.bucket is None else {"bucket": position.bucket}
    return bucket | {"after": None if position.after is None else key_to_json(position.after)}


def _position_from_json(entry: Mapping[str, object]) -> Position:
    if entry.get("done") is True:
        return Position(is_done=True)
    after, bucket = entry["after"], entry.get("bucket")
    if bucket is not None and (isinstance(bucket, bool) or not isinstance(bucket, int)):
        raise TypeError("a bucket has a number")
    if bucket is None and after is None:
        raise TypeError("a scan stands behind a key or in a bucket")
    return Position(None if after is None else key_from_json(after), bucket)
