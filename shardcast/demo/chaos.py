"""The kill switch: SIGKILL to a daemon of chance at once, and again every few seconds."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from shardcast.supervisor import Daemon

KINDS = ("executor", "broker", "admin")
PERIOD_SECONDS = (1.5, 4.0)


@asynccontextmanager
async def striking(
    daemons: Sequence[Daemon], chance: random.Random, period: tuple[float, float] = PERIOD_SECONDS
) -> AsyncIterator[Counter[str]]:
    """Kills until the block ends; gives the kills by kind of daemon. The supervisor starts them again."""
    kills: Counter[str] = Counter()
    task = asyncio.create_task(_strike(daemons, chance, period, kills))
    try:
        yield kills
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _strike(
    daemons: Sequence[Daemon], chance: random.Random, period: tuple[float, float], kills: Counter[str]
) -> None:
    await asyncio.sleep(chance.uniform(0, period[0]))  # soon, or a short demonstration would be over before it
    while True:
        kind = chance.choice(sorted({each.command.kind for each in daemons} & set(KINDS)))
        victim = chance.choice([each for each in daemons if each.command.kind == kind])
        kills[kind] += victim.kill()
        await asyncio.sleep(chance.uniform(*period))
