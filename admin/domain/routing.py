"""Which executor gets which waiting shard: evenly, and the same for the same input."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    heaps: dict[tuple[Group, HandlerName], list[tuple[int, ExecutorId]]] = {}
    choices: list[Choice] = []
    for shard in waiting:
        wanted = (shard.group, shard.handler)
        if wanted not in heaps:
            heaps[wanted] = [(used[room.executor_id], room.executor_id) for room in rooms if _offers(room, *wanted)]
            heapq.heapify(heaps[wanted])
        if (chosen := _take(heaps[wanted], rooms_by_id, used)) is not None:
            choices.append(Choice(shard.key, chosen.executor_id, chosen.name))
    return choices


def _offers(room: Room, group: Group, handler: HandlerName) -> bool:
    return room.group == group and handler in room.handlers


def _take(
    heap: list[tuple[int, ExecutorId]], rooms: dict[ExecutorId, Room], used: dict[ExecutorId, int]
) -> Room | None:
    """The least used one; entries that other handlers' shards made stale are put in order first."""
    while heap:
        count, executor_id = heap[0]
        if used[executor_id] >= rooms[executor_id].slots:
            heapq.heappop(heap)
        elif count != used[executor_id]:
            heapq.heapreplace(heap, (used[executor_id], executor_id))
        else:
            used[executor_id] += 1
            heapq.heapreplace(heap, (used[executor_id], executor_id))
            return rooms[executor_id]
    return None
