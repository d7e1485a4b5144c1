"""Who gets which shard."""

from admin.domain.names import ExecutorId, Group, HandlerName, RunId, ShardKey
from admin.domain.routing import Room, Waiting, route


def _room(
    name: str,
    *,
    slots: int = 4,
    used: int = 0,
    handlers: tuple[str, ...] = ("push",),
    group: str = "g",
    left: dict[str, int] | None = None,
) -> Room:
    offered = frozenset(map(HandlerName, handlers))
    free = {HandlerName(handler): count for handler, count in (left or {}).items()}
    return Room(ExecutorId(name), name, Group(group), offered, slots, used, free)


def _waiting(count: int, handler: str = "push", group: str = "g") -> list[Waiting]:
    return [Waiting(ShardKey(RunId(handler), i), Group(group), HandlerName(handler)) for i in range(count)]


def _loads(waiting: list[Waiting], rooms: list[Room]) -> dict[str, int]:
    choices = route(waiting, rooms)
    return {room.name: sum(choice.name == room.name for choice in choices) for room in rooms}


def test_shards_spread_evenly():
    assert _loads(_waiting(6), [_room("a"), _room("b"), _room("c")]) == {"a": 2, "b": 2, "c": 2}


def test_who_holds_less_gets_more():
    assert _loads(_waiting(3), [_room("a", used=3), _room("b")]) == {"a": 0, "b": 3}


def test_nobody_gets_more_than_the_slots_that_are_free_and_the_oldest_come_first():
    choices = route(_waiting(9), [_room("a", slots=2), _room("b", slots=4, used=3)])
    assert [choice.key.index for choice in choices] == [0, 1, 2]


def test_only_who_offers_the_handler_in_the_group_gets_it():
    rooms = [_room("a", handlers=("other",)), _room("b", group="else"), _room("c", handlers=("push", "other"))]
    assert _loads(_waiting(2), rooms) == {"a": 0, "b": 0, "c": 2}
    assert route(_waiting(2, "unheard"), rooms) == []


def test_slots_are_shared_by_all_handlers():
    rooms = [_room("a", slots=2, handlers=("push", "other")), _room("b", slots=2)]
    choices = route([*_waiting(2), *_waiting(4, "other"), *_waiting(4)], rooms)
    assert len(choices) == 4
    assert sum(choice.name == "a" for choice in choices) == 2


def test_the_same_input_gives_the_same_choice():
    rooms = [_room(name) for name in "cab"]
    assert route(_waiting(7), rooms) == route(_waiting(7), rooms)


def test_a_handler_with_a_limit_of_its_own_gets_no_more_than_that_and_leaves_the_rest_to_others():
    rooms = [_room("a", handlers=("push", "slow"), left={"slow": 1}), _room("b", handlers=("slow",), left={"slow": 2})]
    choices = route([*_waiting(9, "slow"), *_waiting(9)], rooms)
    given = [(choice.key.run_id, choice.name) for choice in choices]
    assert {each: given.count(each) for each in given} == {("slow", "a"): 1, ("slow", "b"): 2, ("push", "a"): 3}
