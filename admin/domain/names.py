"""The names and numbers by which things are known."""

from typing import NamedTuple, NewType

JobName = NewType("JobName", str)
Group = NewType("Group", str)
HandlerName = NewType("HandlerName", str)
RunId = NewType("RunId", str)  # UUIDv7, so that later runs sort behind earlier ones
ExecutorId = NewType("ExecutorId", str)  # random for each start of an executor
AdminId = NewType("AdminId", str)  # random for each start of an admin
TokenId = NewType("TokenId", str)
JobId = NewType("JobId", int)  # never given twice, also where a name is
DefinitionId = NewType("DefinitionId", int)  # of a definition as it was kept; it never changes


class ShardKey(NamedTuple):
    """Names a shard."""

    run_id: RunId
    index: int  # type: ignore[assignment]  # a method of tuples, which nobody asks of this one


class Attempt(NamedTuple):
    """Names one assignment of a shard; the term is higher for each."""

    run_id: RunId
    index: int  # type: ignore[assignment]  # a method of tuples, which nobody asks of this one
    term: int

    @property
    def shard(self) -> ShardKey:
        return ShardKey(self.run_id, self.index)
