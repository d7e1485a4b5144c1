"""The port Groups over the broker's clients."""

from collections.abc import Sequence

from admin.topics.asking import asked
from broker.client.operating.dead_letters import DeadLetterClient, DeadLetters, Resent
from broker.client.operating.groups import GroupClient, GroupState, Reset, ResetTarget
from broker.model import GroupPolicy


class BrokerGroups:
    """Asks the broker, each time: nothing is kept here."""

    def __init__(self, groups: GroupClient, dead_letters: DeadLetterClient) -> None:
        self._groups = groups
        self._dead_letters = dead_letters

    async def list(self) -> Sequence[str]:
        return await asked(self._groups.list())

    async def get(self, name: str) -> GroupState:
        return await asked(self._groups.get(name))

    async def alter(self, name: str, policy: GroupPolicy) -> GroupPolicy:
        return await asked(self._groups.alter(name, policy))

    async def delete(self, name: str) -> None:
        await asked(self._groups.delete(name))

    async def preview_reset(self, name: str, topic: str, to: ResetTarget) -> Reset:
        return await asked(self._groups.preview_reset(name, topic, to))

    async def reset(
        self, name: str, topic: str, to: ResetTarget, *, expected: Sequence[int] | None, force: bool
    ) -> Reset:
        return await asked(self._groups.reset(name, topic, to, expected=expected, force=force))

    async def dead_letters(self, name: str, offset: int, limit: int) -> DeadLetters:
        return await asked(self._dead_letters.read(name, offset, limit))

    async def resend(
        self, name: str, offsets: Sequence[int], *, first: int, before: int, limit: int, rate: float
    ) -> Resent:
        return await asked(self._dead_letters.resend(name, offsets, first=first, before=before, limit=limit, rate=rate))

    async def purge(self, name: str, offsets: Sequence[int]) -> int:
        return await asked(self._dead_letters.purge(name, offsets))
