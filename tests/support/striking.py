"""Faults that befall executors while they hold shards, and what comes of it: who goes on, how soon, who was late."""

import enum
import random
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.demo_process import wait_for
from tests.support.moving_shards import Copying, Mover

MOVE_SECONDS = 40.0  # of a shard, at the very most


class Fault(enum.StrEnum):
    """What befalls an executor, until it is mended."""

    KILLED = "killed"
    DRAINED = "drained"
    FROZEN = "frozen"
    CUT_FROM_ADMIN = "cut from admin"
    CUT_FROM_BOTH = "cut from both"
    SILENCED = "silenced"  # to both; what was under way comes late
    CUT_FROM_BROKER = "cut from broker"  # the admin hears of it, so it keeps its shards


MOVING = frozenset(Fault) - {Fault.CUT_FROM_BROKER}
LASTING = MOVING - {Fault.KILLED, Fault.DRAINED}  # who had the shards comes back


class Late(enum.StrEnum):
    """How an attempt that came back behind its lease has ended."""

    ITSELF = "noticed by itself"  # by its clock, or told by the admin
    BROKER = "fenced by the broker"
    ADMIN = "superseded"  # it was done, but the admin did not hear of it in time


@dataclass
class Figures:
    """What came of the faults."""

    runs: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    takeovers: Counter[Fault] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # from a fault until a shard went on elsewhere
    late: Counter[Late] = field(default_factory=Counter)

    def __str__(self) -> str:
        took = (
            f"{statistics.median(self.seconds):.2f} s (p50), {max(self.seconds):.2f} s (max)" if self.seconds else "-"
        )
        parts = (
            f"{self.runs} runs",
            f"{self.faults.total()} faults ({_shown(self.faults)})",
            f"{self.takeovers.total()} takeovers ({_shown(self.takeovers)}) behind {took}",
            f"{self.late.total()} late holders ({_shown(self.late)})",
        )
        return ", ".join(parts)


@dataclass(frozen=True)
class Blow:
    """A fault while it lasts; `held` are the shards and terms that the executor had when it began, those in `running`
    with its knowledge."""

    mover: Mover
    fault: Fault
    at: float
    held: Mapping[int, int]
    running: Sequence[int]
    missed: int  # how often the executor had missed the broker before

    def mend(self) -> None:
        match self.fault:
            case Fault.KILLED:
                self.mover.process.start()
            case Fault.DRAINED:
                assert self.mover.process.wait() == 0, self.mover.process.said()
                self.mover.process.start()
            case Fault.FROZEN:
                self.mover.process.thaw()
            case _:
                self.mover.restore()


class Strikes:
    """Upon one run."""

    def __init__(self, copying: Copying, chance: random.Random, figures: Figures) -> None:
        self._copying = copying
        self._chance = chance
        self._figures = figures

    def strike(self, faults: Sequence[Fault]) -> None:
        """These befall as many executors that hold something; when the shards are elsewhere all is mended."""
        holders = [mover for mover in self._copying.fleet.movers if self._copying.held(mover)]
        movers = self._chance.sample(holders, min(len(holders), len(faults)))
        blows = [self._hit(mover, fault) for mover, fault in zip(movers, faults, strict=False)]
        self._figures.faults.update(blow.fault for blow in blows)
        for blow in [blow for blow in blows if blow.fault not in MOVING]:
            self._await_notice(blow)
            blow.mend()  # before it gets what others lose
        moving = [blow for blow in blows if blow.fault in MOVING]
        for blow in moving:
            self._await_takeovers(blow, {each.mover.name for each in moving})
        self._chance.shuffle(moving)
        for blow in moving:
            blow.mend()
        for blow in moving:
            if blow.fault in LASTING:
                self._await_end(blow)

    def _hit(self, mover: Mover, fault: Fault) -> Blow:
        shards, missed, at = self._copying.held(mover), mover.missed_broker, time.time()
        match fault:
            case Fault.KILLED:
                mover.process.kill()
            case Fault.DRAINED:
                mover.process.ask_to_end()
            case Fault.FROZEN:
                mover.process.freeze()
            case Fault.CUT_FROM_ADMIN:
                mover.cut(mover.to_admin)
            case Fault.CUT_FROM_BOTH:
                mover.cut(mover.to_admin, mover.to_broker)
            case Fault.SILENCED:
                mover.silence(mover.to_admin, mover.to_broker)
            case Fault.CUT_FROM_BROKER:
                mover.cut(mover.to_broker)
        held = {shard["index"]: shard["term"] for shard in shards}
        running = [shard["index"] for shard in shards if shard["state"] == "running"]
        return Blow(mover, fault, at, held, running, missed)

    def _await_takeovers(self, blow: Blow, struck: set[str]) -> None:
        for index, term in blow.held.items():
            wait_for(
                f"shard {index} elsewhere than with {blow.mover.name}, {blow.fault}",
                lambda index=index: self._has_gone_on(index, blow, struck),
                MOVE_SECONDS,
            )
            if self._copying.shards()[index]["term"] > term:
                self._figures.takeovers[blow.fault] += 1
                self._figures.seconds.append(min(self._went_on(index, blow, struck)) - blow.at)

    def _went_on(self, index: int, blow: Blow, struck: set[str]) -> list[float]:
        """When it did, with executors that nothing ails."""
        marks = [mark for mark in self._copying.marks() if mark["shard"] == index and mark["executor"] not in struck]
        return [mark["at"] for mark in marks if mark["at"] > blow.at]

    def _has_gone_on(self, index: int, blow: Blow, struck: set[str]) -> bool | None:
        """Also where it had ended in the moment of the blow."""
        shard = self._copying.shards()[index]
        has_ended = shard["state"] == "succeeded" and shard["term"] == blow.held[index]
        return has_ended or bool(self._went_on(index, blow, struck)) or None

    def _await_notice(self, blow: Blow) -> None:
        """Until the executor finds the broker gone, or has nothing left to tell it."""
        wait_for(
            f"{blow.mover.name} to miss the broker",
            lambda: blow.mover.missed_broker > blow.missed or not self._copying.held(blow.mover) or None,
        )

    def _await_end(self, blow: Blow) -> None:
        """Until every attempt that was late has ended, and what it found has changed nothing."""
        for index in blow.running:
            term = blow.held[index]
            if self._copying.shards()[index]["term"] == term:
                continue  # it was in time
            name = f"{self._copying.run_id}/{index}#{term}"
            ended = wait_for(
                f"the end of {name} with {blow.mover.name}, {blow.fault}",
                lambda name=name: _how_ended(blow.mover, name),
            )
            self._figures.late[ended] += 1


def _how_ended(mover: Mover, attempt: str) -> Late | None:
    """None while it has not, or its report waits for its answer."""
    (ended, *_) = [line for line in mover.logged("attempt_ended") if line["attempt"] == attempt] or [None]
    if ended is None:
        return None
    if ended["lease_lost"]:
        return Late.ITSELF
    (answer, *_) = [line for line in mover.logged("report_answered") if line["attempt"] == attempt] or [None]
    if answer is None:
        return None
    assert answer["verdict"] == "VERDICT_SUPERSEDED", f"the report of {attempt} counted: {ended}"
    return Late.BROKER if ended["state"] == "fenced" else Late.ADMIN


def _shown(counts: Mapping[Fault, int] | Mapping[Late, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
