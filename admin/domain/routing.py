"""Which executor gets which waiting shard: evenly, and the same for the same input."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from admin.domain.names import ExecutorId, Group, HandlerName, ShardKey
from admin.domain.run import Run
from admin.domain.shard import Shard


@dataclass(frozen=True, slots=True)
class Room:
    """A living executor and what it can take."""

    executor_id: ExecutorId
    name: str
    group: Group
    handlers: frozenset[HandlerName]
    slots: int
    used: int
    left: Mapping[HandlerName, int] = field(default_factory=dict, hash=False)
    """How many more of each handler that has a limit of its own."""


class Waiting(NamedTuple):
    """A shard that waits, and for what."""

    key: ShardKey
    group: Group
    handler: HandlerName


class Choice(NamedTuple):
    """A shard, and the executor that is to hold it."""

    key: ShardKey
    executor_id: ExecutorId
    name: str


class Assignment(NamedTuple):
    """A shard with its new holder and term, and all that the holder needs to know of the run."""

    shard: Shard
    run: Run
    pins: Mapping[str, str]


def route(waiting: Iterable[Waiting], rooms: Sequence[Room]) -> list[Choice]:
    """Each shard, in order, goes to the executor that holds the fewest and offers its handler; else it waits."""
    rooms_by_id = {room.executor_id: room for room in rooms}
    used = {room.executor_id: room.used for room in rooms}
    left = {(room.executor_id, handler): count for room in rooms for handler, count in room.left.items()}
    heaps: dict[tuple[Group, HandlerName], list[tuple[int, ExecutorId]]] = {}
    choices: list[Choice] = []
    for shard in waiting:
        wanted = (shard.group, shard.handler)
        if wanted not in heaps:
            heaps[wanted] = [(used[room.executor_id], room.executor_id) for room in rooms if _offers(room, *wanted)]
            heapq.heapify(heaps[wanted])
        if (chosen := _take(heaps[wanted], rooms_by_id, used, left, shard.handler)) is not None:
            choices.append(Choice(shard.key, chosen.executor_id, chosen.name))
    return choices


def _offers(room: Room, group: Group, handler: HandlerName) -> bool:
    return room.group == group and handler in room.handlers


def _take(
    heap: list[tuple[int, ExecutorId]],
    rooms: dict[ExecutorId, Room],
    used: dict[ExecutorId, int],
    left: dict[tuple[ExecutorId, HandlerName], int],
    handler: HandlerName,
) -> Room | None:
    """The least used one; entries that other handlers' shards made stale are put in order first."""
    while heap:
        count, executor_id = heap[0]
        if used[executor_id] >= rooms[executor_id].slots or left.get((executor_id, handler), 1) <= 0:
            heapq.heappop(heap)
        elif count != used[executor_id]:
            heapq.heapreplace(heap, (used[executor_id], executor_id))
        else:
            used[executor_id] += 1
            if (executor_id, handler) in left:
                left[executor_id, handler] -= 1
            heapq.heapreplace(heap, (used[executor_id], executor_id))
            return rooms[executor_id]
    return None
