"""Four functions: a promotion and a coupon for all users, a coupon for designated ones, hot goods by the clock."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from examples.marketing.errors import SceneFailed
from examples.marketing.jobs import jobs
from examples.marketing.scenarios.running import PATIENCE_SECONDS, World, staged
from examples.marketing.scenarios.users import is_vip, user
from examples.marketing.store.tables import coupon_grants, coupons, products, promotions
from shardcast.demo import check
from shardcast.demo.scenarios import ScenarioReport, Stage

LOOK_SECONDS = 0.2
HOT_GOODS = "hot-goods"
HOT_GOODS_IN = timedelta(seconds=3)


async def promotion(stage: Stage) -> ScenarioReport:
    """A platform promotion to all users, by buckets."""
    async with staged(stage) as world:
        return await _sent(world, stage, await _saved(world, order("platform_promotion")), range(1, stage.users + 1))


async def coupon(stage: Stage) -> ScenarioReport:
    """A platform coupon to all users, of which there is only one for every second of those who come for it."""
    comers = min(stage.users, 1_000)
    stock = -(-comers // 2)
    body = order("platform_coupon") | {"coupon": _coupon(stock, is_lazy=True)}
    async with staged(stage) as world:
        saved = await _saved(world, body)
        report = await _sent(world, stage, saved, range(1, stage.users + 1))
        known = await world.ask("GET", "/users/1/coupons")
        (coupon_id,) = (each["coupon_id"] for each in known if each["promotion_id"] == saved["id"])
        granted = sum(await asyncio.gather(*(_comes(world, coupon_id, number) for number in range(1, comers + 1))))
        fields = {**report.fields, "coupons": stock, "claims": comers, "granted": granted}
        return ScenarioReport(fields, report.is_exact and granted == stock == _grants(world, saved["id"]))


async def designated(stage: Stage) -> ScenarioReport:
    """A coupon for gold users of Berlin and Lima over 30, and for VIPs, granted while it is sent."""
    audience = {
        "any": [
            {
                "all": [
                    {"field": "level", "among": ["gold"]},
                    {"field": "city", "among": ["Berlin", "Lima"]},
                    {"field": "age", "least": 30},
                ]
            },
            {"field": "tags", "any_of": ["vip"]},
        ]
    }
    meant = [number for number in range(1, stage.users + 1) if _is_meant(number)]
    body = order("designated_coupon") | {
        "audience": audience,
        "coupon": _coupon(len(meant), is_lazy=False),
        "way": "shards",
    }
    async with staged(stage) as world:
        saved = await _saved(world, body)
        report = await _sent(world, stage, saved, meant)
        granted = _grants(world, saved["id"])
        return ScenarioReport({**report.fields, "granted": granted}, report.is_exact and granted == len(meant))


async def hot_goods(stage: Stage) -> ScenarioReport:
    """The push of the hottest goods by cron, sharded: the job fires in a moment, by the clock."""
    async with staged(stage) as world:
        _stock(world)
        last = _newest(world)
        await asyncio.to_thread(_wind, world, stage.shards)
        return await _sent(world, stage, {"id": await _fired(world, last)}, range(1, stage.users + 1))


def _wind(world: World, shards: int) -> None:
    """Lets the job fire in a moment instead of every morning."""
    fires_at = datetime.now(UTC).replace(microsecond=0) + HOT_GOODS_IN
    cron = f"{fires_at:%S %M %H %d %m} ? {fires_at:%Y}"
    (job,) = (job for job in jobs() if job["name"] == HOT_GOODS)
    with world.shop.admin() as admin:
        admin.put(f"/jobs/{HOT_GOODS}", {**job, "trigger": {"cron": cron, "time_zone": "UTC"}, "shards": shards})


def _is_meant(number: int) -> bool:
    """The same as the condition, said by Python."""
    each = user(number)
    return is_vip(number) or (each.level == "gold" and each.city in ("Berlin", "Lima") and each.age >= 30)


def order(promotion_type: str) -> dict[str, object]:
    """A promotion as somebody asks for it, to be sent at once."""
    now = datetime.now(UTC)
    return {
        "promotion_type": promotion_type,
        "main_message": "Nine o'clock: everything at half price",
        "message": "Today only, in all shops and online.",
        "inform_type": "app_push",
        "starts_at": now.isoformat(),
        "ends_at": (now + timedelta(days=1)).isoformat(),
    }


def _coupon(stock: int, *, is_lazy: bool) -> dict[str, object]:
    expires_at = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    return {"name": "5 off", "value_cents": 500, "stock": stock, "expires_at": expires_at, "is_lazy": is_lazy}


async def _saved(world: World, body: Mapping[str, object]) -> dict[str, Any]:
    began = time.perf_counter()
    saved: dict[str, Any] = await world.ask("POST", "/promotions", body)
    return {**saved, "seconds": time.perf_counter() - began}


async def _sent(world: World, stage: Stage, saved: Mapping[str, Any], audience: Iterable[int]) -> ScenarioReport:
    """Follows a promotion to its end, and compares the recorded calls with the audience."""
    began, published_at, told = time.time(), None, {"state": "saved", "published": 0, "delivered": 0}
    while told["state"] not in ("completed", "cancelled"):
        await asyncio.sleep(LOOK_SECONDS)
        world.look()
        before, told = told["published"], await world.ask("GET", f"/promotions/{saved['id']}/progress")
        if told["published"] != before:
            published_at = time.time()
        stage.show(stage.users, told["published"], told["delivered"])
        if told["state"] in ("paused", "held"):  # by itself: nobody is there who would let it go on
            raise SceneFailed(reason=f"promotion {saved['id']} is {told['state']}: {told['reason']}.")
    records, scratch = world.recorded(), stage.data / "check.db"
    comparing = partial(check.compare, map(str, audience), records, scratch, promotion_id=saved["id"])
    verdict = await asyncio.to_thread(comparing)
    if stage.deliveries is not None:
        _merge(records, stage.deliveries, saved["id"])
    ended = max((record.stat().st_mtime for record in records if record.stat().st_size), default=time.time())
    fields = {
        "audience": verdict.delivered - verdict.duplicates - verdict.unexpected + verdict.missing,
        "published": told["published"],
        "delivered": verdict.delivered,
        "missing": verdict.missing,
        "duplicates": verdict.duplicates,
        "unexpected": verdict.unexpected,
        **({"save_ms": round(saved["seconds"] * 1000, 1)} if "seconds" in saved else {}),
        "executors": stage.executors,
        "consumers": stage.consumers,
        "publish_seconds": round((published_at or began) - began, 3),
        "deliver_seconds": round(max(ended - began, 0.001), 3),
        "messages_per_second": round(verdict.delivered / max(ended - began, 0.001)),
        "kills": dict(world.kills),
        "peak_rss_mb": dict(world.peaks),
        "promotion_id": saved["id"],
    }
    return ScenarioReport(fields, verdict.is_exact)


async def _comes(world: World, coupon_id: int, user_id: int) -> bool:
    """Whether the user gets one."""
    answer = await world.api.post(f"/coupons/{coupon_id}/claim", json={"user_id": user_id})
    return answer.is_success


def _grants(world: World, promotion_id: int) -> int:
    of_it = (coupons.c.id == coupon_grants.c.coupon_id) & (coupons.c.promotion_id == promotion_id)
    with world.shop.database.reading() as connection:
        return int(
            connection.execute(select(func.count()).select_from(coupon_grants).join(coupons, of_it)).scalar_one()
        )


def _stock(world: World) -> None:
    goods = [{"id": n, "name": f"goods {n}", "stock": 1_000, "sold": n * 13 % 100} for n in range(1, 21)]
    with world.shop.database.writing() as connection:
        connection.execute(products.delete())
        connection.execute(products.insert(), goods)


async def _fired(world: World, last: int) -> int:
    """The promotion that the job has made of itself, behind the last one."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (newest := _newest(world)) == last:
        if time.monotonic() > deadline:
            raise SceneFailed(reason=f"the job {HOT_GOODS} has made no promotion within {PATIENCE_SECONDS:.0f} s.")
        await asyncio.sleep(LOOK_SECONDS)
    return newest


def _newest(world: World) -> int:
    """0: there is none."""
    with world.shop.database.reading() as connection:
        return int(connection.execute(select(func.coalesce(func.max(promotions.c.id), 0))).scalar_one())


def _merge(records: Iterable[Path], target: Path, promotion_id: int) -> None:
    """The calls of the promotion; an earlier one, played in the same directory and broken off, may have come to its end
    beside it."""
    begin = b'{"promotion_id": %d,' % promotion_id
    with target.open("wb") as merged:
        for record in records:
            with record.open("rb") as lines:
                merged.writelines(line for line in lines if line.startswith(begin))
