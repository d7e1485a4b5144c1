from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from broker.log.flush import GATHER_SECONDS, MOST_GATHERS, SIBLINGS, GroupCommit


class Commits:
    """Group commit whose thread waits, group by group, until the test has looked, and whose naps bring more items."""

    def __init__(self) -> None:
        self.naps: list[float] = []
        self.brought_by_naps: list[list[str]] = []
        self._groups: SimpleQueue[list[str]] = SimpleQueue()
        self._go_on: SimpleQueue[None] = SimpleQueue()
        self.thread = GroupCommit[str](self._commit, self._die, self._sleep)

    def group(self) -> list[str]:
        """The next group; its commit is not over before `go_on`."""
        return self._groups.get(timeout=10)

    def go_on(self) -> None:
        self._go_on.put(None)

    def _commit(self, group: list[str]) -> None:
        self._groups.put(group)
        self._go_on.get()

    def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        for item in self.brought_by_naps.pop(0) if self.brought_by_naps else ():
            self.thread.submit(item)

    def _die(self, error: BaseException) -> None:
        raise AssertionError from error


@contextmanager
def committing() -> Iterator[Commits]:
    commits = Commits()
    yield commits
    commits.thread.stop()


def test_items_that_come_one_at_a_time_never_wait() -> None:
    with committing() as commits:
        for item in "abc":
            commits.thread.submit(item)
            assert commits.group() == [item]
            commits.go_on()
    assert commits.naps == []


def test_what_comes_during_a_commit_is_one_group_without_a_wait() -> None:
    with committing() as commits:
        commits.thread.submit("a")
        assert commits.group() == ["a"]
        for item in "bcd":
            commits.thread.submit(item)
        commits.go_on()
        assert commits.group() == ["b", "c", "d"]
        commits.go_on()
    assert commits.naps == []


def grown_large(commits: Commits, size: int) -> None:
    """The last group had so many items; its commit goes on."""
    commits.thread.submit("a")
    assert commits.group() == ["a"]
    for number in range(size):
        commits.thread.submit(str(number))
    commits.go_on()
    assert len(commits.group()) == size


def test_a_group_smaller_than_a_large_one_waits_until_a_wait_brings_nothing() -> None:
    with committing() as commits:
        grown_large(commits, SIBLINGS)
        commits.brought_by_naps = [["c"]]
        commits.thread.submit("b")
        commits.go_on()
        assert commits.group() == ["b", "c"]
        commits.thread.submit("d")
        commits.go_on()
        assert commits.group() == ["d"]
        commits.go_on()
    assert commits.naps == [GATHER_SECONDS] * 2


def test_a_group_as_large_as_the_last_one_waits_no_longer() -> None:
    with committing() as commits:
        grown_large(commits, SIBLINGS)
        commits.brought_by_naps = [["c"] * SIBLINGS, ["late"]]
        commits.thread.submit("b")
        commits.go_on()
        assert commits.group() == ["b", *["c"] * SIBLINGS]
        commits.go_on()
    assert commits.naps == [GATHER_SECONDS]


def test_waits_that_bring_more_end_nevertheless() -> None:
    with committing() as commits:
        grown_large(commits, 2 * MOST_GATHERS)
        commits.brought_by_naps = [["c"]] * (MOST_GATHERS + 1)
        commits.thread.submit("b")
        commits.go_on()
        assert commits.group() == ["b", *["c"] * MOST_GATHERS]
        commits.brought_by_naps = []
        commits.go_on()
    assert commits.naps == [GATHER_SECONDS] * MOST_GATHERS


def test_stopping_does_not_wait_for_more() -> None:
    with committing() as commits:
        commits.thread.submit("a")
        assert commits.group() == ["a"]
        for number in range(SIBLINGS):
            commits.thread.submit(str(number))
        commits.go_on()
        assert len(commits.group()) == SIBLINGS
        commits.go_on()
    assert commits.naps == []
