"""The names and numbers by which things are known."""

from dataclasses import dataclass
from typing import NewType

JobName = NewType("JobName", str)
Group = NewType("Group", str)
HandlerName = NewType("HandlerName", str)
RunId = NewType("RunId", str)  # UUIDv7, so that later runs sort behind earlier ones
ExecutorId = NewType("ExecutorId", str)  # random for each start of an executor
AdminId = NewType("AdminId", str)  # random for each start of an admin
TokenId = NewType("TokenId", str)
JobId = NewType("JobId", int)  # never given twice, also where a name is
DefinitionId = NewType("DefinitionId", int)  # of a definition as it was kept; it never changes


@dataclass(frozen=True, slots=True, order=True)
class ShardKey:
    """Names a shard."""

    run_id: RunId
    index: int


@dataclass(frozen=True, slots=True, order=True)
class Attempt:
    """Names one assignment of a shard; the term is higher for each."""

    run_id: RunId
    index: int
    term: int

    @property
    def shard(self) -> ShardKey:
        return ShardKey(self.run_id, self.index)
