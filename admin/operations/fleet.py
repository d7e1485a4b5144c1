"""Who is connected, who is alive, and what they offer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from admin.domain.errors import InvalidParams
from admin.domain.names import ExecutorId, Group, HandlerName
from admin.domain.overlap import reason_of_wait
from admin.domain.run import Run, RunState
from admin.operations.params import Fault, fault_of
from admin.ports import Clock, Executor, FleetStore, Others
from protos.errors import UnknownHandler


@dataclass(frozen=True, slots=True)
class Alive:
    """The executors that gave a sign of life within a lease, as of one moment."""

    executors: Sequence[Executor]

    def count(self, group: Group) -> int:
        """How many of the group take shards."""
        return sum(executor.group == group and not executor.is_draining for executor in self.executors)

    def check(self, group: Group, handler: HandlerName) -> None:
        """Raises UnknownHandler where the group has executors and none registered the handler."""
        known = _handlers(executor for executor in self.executors if executor.group == group)
        if known is not None and handler not in known:
            raise UnknownHandler(name=handler, known=", ".join(sorted(known)) or "none")

    def check_params(self, group: Group, handler: HandlerName, params: str, *, is_partial: bool = False) -> None:
        """Raises InvalidParams where every executor that offers the handler refuses them; while a deployment rolls,
        these may be of several versions.
        """
        fault: Fault | None = None
        for executor in self.executors:
            if executor.group == group and not executor.is_draining and handler in executor.handlers:
                fault = fault_of(executor.schemas.get(handler, ""), params, is_partial=is_partial)
                if fault is None:
                    return
        if fault is not None:
            raise InvalidParams(handler=handler, path=fault.path, reason=fault.reason)

    def explained(self, run: Run) -> Run:
        """Says why nobody takes a run that waits."""
        if run.state is not RunState.WAITING or run.reason:
            return run
        if run.is_queued:
            return run._replace(reason=reason_of_wait(run.definition))
        known = _handlers(each for each in self.executors if each.group == run.group and not each.is_draining)
        if known is None:
            return run._replace(reason=f"no executor of the group {run.group} is alive")
        if run.handler in known:
            return run
        return run._replace(reason=f"no executor of the group {run.group} offers the handler {run.handler}")


@dataclass(frozen=True, slots=True)
class Fleet:
    """The connected executors."""

    store: FleetStore
    clock: Clock
    lease: timedelta

    def list(self) -> Sequence[Executor]:
        return self.store.list()

    def alive(self) -> Alive:
        now = self.clock()
        return Alive([executor for executor in self.store.list() if executor.is_alive(now, self.lease)])


class SharedFleet:
    """Implements FleetStore over the executors that are linked to this admin, and what was learnt of the others'."""

    def __init__(self, linked: FleetStore) -> None:
        self.linked = linked
        self._others = Others()

    def see(self, others: Others) -> None:
        self._others = others

    @property
    def is_alone(self) -> bool:
        """Whether no other admin was awake when it was last looked for."""
        return not self._others.admins

    def list(self) -> Sequence[Executor]:
        linked = self.linked.list()
        known = {executor.id for executor in linked}
        newest: dict[ExecutorId, Executor] = {}
        for executor in sorted(self._others.executors, key=lambda each: each.seen_at):
            if executor.id not in known:
                newest[executor.id] = executor  # one that moved on may still be in the book twice
        return sorted((*linked, *newest.values()), key=lambda each: (each.group, each.name, each.id))


def _handlers(executors: Iterable[Executor]) -> frozenset[HandlerName] | None:
    """All that they registered, None where there are no executors."""
    offers = [executor.handlers for executor in executors]
    return frozenset().union(*offers) if offers else None
