"""How a run reads a table: decided once by the first holder of one of its shards, the same for every attempt."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from executor.errors import BadPlan, PlanTooLong
from executor.model import Shard
from executor.sharding.keys import Key, key_from_json, key_to_json
from executor.sharding.stretches import Stretch, of_buckets, of_range

Strategy = Literal["hash", "ranges", "buckets"]

STRATEGIES = ("hash", "ranges", "buckets")
MAX_PLAN_BYTES = 60 << 10  # the admin keeps 64 KiB


@dataclass(frozen=True, slots=True)
class Bucket:
    """An indexed integer column with values from 0 up to, not including, `of`.

    For `hash` it holds stable_hash(key) % of, and the run's shards divide `of`; for `buckets` anything that deals the
    rows out. An index over the column and the key serves it best.
    """

    column: str
    of: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What a handler's call of `scan` says, as the plan records it."""

    table: str
    key: Sequence[str]
    total: int
    strategy: Strategy = "hash"
    bucket: Bucket | None = None
    filter: str = ""


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """Reads rows by rising key up to `upper` (None: there were none); `bounds` are the upper ends of all ranges but the
    last."""

    asked: Asked
    upper: Key | None
    bounds: Sequence[Key] = ()

    @property
    def strategy(self) -> Strategy:
        return self.asked.strategy

    @property
    def bucket(self) -> Bucket | None:
        return self.asked.bucket

    def stretches(self, shard: Shard) -> Iterator[Stretch]:
        """Where this shard's rows lie."""
        if self.upper is None:
            return iter(())
        if self.bucket is not None:
            return of_buckets(shard, self.bucket.of, self.upper)
        if self.strategy == "ranges":
            return of_range(shard, self.bounds, self.upper)
        return iter((Stretch(self.upper),))

    def encode(self) -> str:
        """Raises PlanTooLong."""
        asked = self.asked
        content = {"table": asked.table, "key": list(asked.key), "total": asked.total, "strategy": asked.strategy}
        if asked.bucket is not None:
            content |= {"bucket": asked.bucket.column, "of": asked.bucket.of}
        if asked.filter:
            content["filter"] = asked.filter
        if self.bounds:
            content["bounds"] = [key_to_json(key) for key in self.bounds]
        content["upper"] = None if self.upper is None else key_to_json(self.upper)
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        if (size := len(text.encode(errors="replace"))) > MAX_PLAN_BYTES:
            raise PlanTooLong(size=size, limit=MAX_PLAN_BYTES)
        return text

    @classmethod
    def decode(cls, text: str) -> "ScanPlan":
        """Raises BadPlan for one that this version does not understand."""
        try:
            content = json.loads(text)
            bucket = Bucket(str(content["bucket"]), int(content["of"])) if "bucket" in content else None
            asked = Asked(
                str(content["table"]),
                tuple(map(str, content["key"])),
                int(content["total"]),
                cast(Strategy, content["strategy"]),
                bucket,
                str(content.get("filter", "")),
            )
            upper = None if content["upper"] is None else key_from_json(content["upper"])
            plan = cls(asked, upper, tuple(map(key_from_json, content.get("bounds", ()))))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadPlan(reason=f"{type(error).__name__}: {error}") from error
        if plan.strategy not in STRATEGIES:
            raise BadPlan(reason=f"its strategy is {plan.strategy!r}")
        return plan

    def check(self, asked: Asked) -> None:
        """Raises BadPlan where the call asks for something else than the run began with."""
        if asked != self.asked:
            raise BadPlan(reason=f"the run began with {self.asked}, and the call asks for {asked}")
