"""Runs of the marketing jobs, as the admin starts them and tells of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from examples.marketing.fanout.following import RESTED
from examples.marketing.messages import Phase
from examples.marketing.shop import Shop
from shardcast import ShardcastError

SEND, RESEND, STEWARD, HOT_GOODS = "marketing-send", "marketing-resend", "marketing-steward", "hot-goods"
"""Names of jobs, see jobs.yaml."""


@dataclass(frozen=True, slots=True)
class Run:
    """`published` are messages that are in their topic. `has_rested`: it gave up because its promotion rested."""

    id: str
    state: str
    published: int
    is_ended: bool
    has_rested: bool


def start_sending(shop: Shop, promotion_id: int, phase: Phase) -> str:
    """The id of the run that sends this phase; the same however often it is asked for within a day."""
    params = {"promotion_id": promotion_id, "phase": phase.value}
    return _start(shop, SEND, params, f"promotion-{promotion_id}-{phase.value}")


def start_resending(shop: Shop, promotion_id: int, resend: int) -> str:
    """The id of the run that sends the failures again which this resend took."""
    return _start(
        shop, RESEND, {"promotion_id": promotion_id, "resend": resend}, f"promotion-{promotion_id}-resend-{resend}"
    )


def cancel(shop: Shop, run_id: str) -> None:
    with shop.admin() as admin:
        admin.post(f"/runs/{run_id}/cancel")


def retry(shop: Shop, run_id: str) -> None:
    """Lets its failed shards go on where they stood."""
    with shop.admin() as admin:
        admin.post(f"/runs/{run_id}/retry")


def find(shop: Shop, run_id: str) -> Run | None:
    """None where the admin does not keep it any more: it ended long ago."""
    with shop.admin() as admin:
        try:
            run = admin.get(f"/runs/{run_id}")
        except ShardcastError as error:
            if code_of(error) == "unknown_run":
                return None
            raise
        shards = admin.get(f"/runs/{run_id}/shards")["shards"]
    errors = [shard["error_message"] for shard in shards if shard["state"] != "succeeded"]
    return Run(
        id=run_id,
        state=run["state"],
        published=sum(shard["published"] for shard in shards),
        is_ended=run["ended_at"] is not None,
        has_rested=run["state"] == "failed" and all(RESTED in error for error in errors),
    )


def code_of(error: ShardcastError) -> str:
    """What the admin answered; its own errors have no class here."""
    return str(error.fields.get("remote_code", error.code))


def _start(shop: Shop, job: str, params: Mapping[str, object], key: str) -> str:
    with shop.admin() as admin:
        run = admin.post(f"/jobs/{job}/trigger", {"params": params}, headers={"Idempotency-Key": key})
    return str(run["id"])
