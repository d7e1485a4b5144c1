"""What `once` gives: context managers that claim keys, and mark them done or give them back."""

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Generic, Literal, TypeVar

import structlog

from executor.errors import ClaimHeld
from executor.limits.names import claim_us_of, name_of, names_of, whole_us
from executor.limits.port import Store
from executor.limits.rules import Claiming, Standing
from protos.errors import InvalidArgument

log = structlog.get_logger(__name__)

Unknown = Literal["repeat", "skip"]
T = TypeVar("T")


class Fresh(list[str]):
    """The keys that are ours to do, in the order given, each once; `held` are those that others are at work on."""

    def __init__(self, keys: Sequence[str], held: Sequence[str] = ()) -> None:
        super().__init__(keys)
        self.held = held
        self.given_back: set[str] = set()

    def give_back(self, *keys: str) -> None:
        """Says that these were not done: they are free again as the block ends."""
        self.given_back.update(keys)


class _Claims(ABC, Generic[T]):
    """Claims when it is entered, by `with` or `async with`; left without an error it marks done what was ours, else it
    gives that back."""

    def __init__(
        self, store: Store, keys: dict[str, str], window: timedelta, claim: timedelta | None, unknown: Unknown
    ) -> None:
        if unknown not in ("repeat", "skip"):
            raise InvalidArgument(reason=f"unknown is repeat or skip, not {unknown!r}")
        self._store = store
        self._keys = keys  # by name
        self._window_us = whole_us("window", window)
        self._claim_us = claim_us_of(claim, self._window_us)
        self._is_repeated = unknown == "repeat"
        self._holder = ""
        self._ours: list[str] = []  # names
        self._held: dict[str, int] = {}  # keys, and how long their claims last yet

    def __enter__(self) -> T:
        self._holder = uuid.uuid4().hex
        ask = Claiming(self._holder, self._claim_us, self._window_us, self._is_repeated)
        answers = self._store.claim(list(self._keys), ask) if self._keys else {}
        self._ours = [name for name in self._keys if answers[name].standing is Standing.OURS]
        held = [name for name in self._keys if answers[name].standing is Standing.HELD]
        self._held = {self._keys[name]: answers[name].lapses_in_us for name in held}
        return self._entered()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            if self._ours:
                self._store.release(self._ours, self._holder)
            return
        undone = self._undone()
        if done := [name for name in self._ours if name not in undone]:
            kept = self._store.finish(done, self._holder, self._window_us)
            lost = [self._keys[name] for name in done if not kept[name]]
            if lost:
                log.warning("claim was lost", action="claim_lost", keys=len(lost), key=lost[0])
        if undone:
            self._store.release(list(undone), self._holder)
        self._left()

    async def __aenter__(self) -> T:
        claiming = asyncio.ensure_future(asyncio.to_thread(self.__enter__))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError as error:  # the thread goes on: what it claims would be held by nobody
            await asyncio.wait((claiming,))
            if not claiming.cancelled() and claiming.exception() is None:
                await asyncio.to_thread(self.__exit__, type(error), error, None)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    @abstractmethod
    def _entered(self) -> T:
        """What the block gets."""

    def _undone(self) -> Collection[str]:
        """Names of what is ours and was not done."""
        return ()

    def _left(self) -> None:
        """Behind all that was marked done."""

    def _refuse_held(self) -> None:
        if self._held:
            after = timedelta(microseconds=max(self._held.values()))
            raise ClaimHeld(key=next(iter(self._held)), count=len(self._held), after=after)


class Once(_Claims[bool]):
    """Whether the key is ours to do."""

    def __init__(self, store: Store, key: str, window: timedelta, claim: timedelta | None, unknown: Unknown) -> None:
        super().__init__(store, {name_of(key): key}, window, claim, unknown)

    def _entered(self) -> bool:
        self._refuse_held()
        return bool(self._ours)


class OnceAll(_Claims[Fresh]):
    """Which of many keys are ours to do."""

    def __init__(
        self, store: Store, keys: Sequence[str], window: timedelta, claim: timedelta | None, unknown: Unknown
    ) -> None:
        by_name = dict(zip(names_of(keys), keys, strict=True))
        super().__init__(store, by_name, window, claim, unknown)
        self._fresh = Fresh(())

    def _entered(self) -> Fresh:
        self._fresh = Fresh([self._keys[name] for name in self._ours], list(self._held))
        return self._fresh

    def _undone(self) -> Collection[str]:
        given_back = self._fresh.given_back
        return {name for name in self._ours if self._keys[name] in given_back} if given_back else ()

    def _left(self) -> None:
        self._refuse_held()
