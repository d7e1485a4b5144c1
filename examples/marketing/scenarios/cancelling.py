"""Many orders are cancelled: three groups see each event, and each effect comes once."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict

from examples.marketing.orders.seeding import Effects, Seeded, effects, seed
from examples.marketing.scenarios.running import World, staged
from shardcast.demo.scenarios import ScenarioReport, Stage

CALLS_AT_A_TIME = 16
LOOK_SECONDS = 0.2
PATIENCE_SECONDS = 120.0


async def order_canceled(stage: Stage) -> ScenarioReport:
    """An order for each user, at most 2,000, all cancelled through the API."""
    async with staged(stage) as world:
        buyers = range(1, min(stage.users, 2_000) + 1)
        with world.shop.database.writing() as connection:
            seeded = seed(connection, buyers, now_ms=world.shop.now_ms)
        began = time.perf_counter()
        await _cancelled(world, seeded.orders)
        cancelled_seconds = time.perf_counter() - began
        done = await _followed(world, stage, seeded)
        world.look()
    fields = {
        "orders": len(seeded.orders),
        **{f"{name}_due": value for name, value in asdict(seeded.all).items()},
        **{f"{name}_done": value for name, value in asdict(done).items()},
        "cancel_seconds": round(cancelled_seconds, 3),
        "effect_seconds": round(time.perf_counter() - began, 3),
        "kills": dict(world.kills),
        "peak_rss_mb": dict(world.peaks),
    }
    return ScenarioReport(fields, done == seeded.all)


async def _cancelled(world: World, orders: Sequence[int]) -> None:
    slots = asyncio.Semaphore(CALLS_AT_A_TIME)

    async def cancel(order_id: int) -> None:
        async with slots:
            await world.ask("POST", f"/orders/{order_id}/cancel")

    await asyncio.gather(*map(cancel, orders))


async def _followed(world: World, stage: Stage, seeded: Seeded) -> Effects:
    """What has come of it when nothing more is due, or when it takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with world.shop.database.reading() as connection:
            done = effects(connection, seeded)
        stage.show(seeded.all.coupons, len(seeded.orders), done.coupons)
        if done == seeded.all or time.monotonic() > deadline:
            return done
        await asyncio.sleep(LOOK_SECONDS)
