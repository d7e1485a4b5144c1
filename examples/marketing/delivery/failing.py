"""Keeps who did not get a promotion's message in the end, and why."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import structlog
from sqlalchemy import Connection, bindparam, insert, select, update

from examples.marketing.delivery.ledger import resend_of
from examples.marketing.delivery.reading import Reader
from examples.marketing.messages import REASON
from examples.marketing.shop import Shop, the_shop
from examples.marketing.store.tables import failures
from shardcast import Depends, ReceivedMessage

log = structlog.get_logger(__name__)

Key = tuple[int, int]  # promotion and user


def keep_failures(messages: list[ReceivedMessage], shop: Annotated[Shop, Depends(the_shop)]) -> None:
    """A failure that comes again, though a resend has taken it by now, changes nothing. What has no promotion and no
    user stays in the topic alone."""
    mail = Reader().read([each.body for each in messages])
    for index, reason in mail.unreadable.items():
        failed = messages[index]
        log.warning(
            "no push message",
            action="message_unreadable",
            message_id=failed.message_id,
            reason=failed.properties.get(REASON, reason),
        )
    found: dict[Key, Mapping[str, object]] = {}
    resends: dict[Key, int] = {}
    for letters in mail.letters:
        for index, user_id in zip(letters.indexes, letters.user_ids, strict=True):
            failed, promotion_id = messages[index], letters.message.promotion_id
            found[promotion_id, user_id] = {
                "promotion_id": promotion_id,
                "user_id": user_id,
                "reason": failed.properties.get(REASON, "").replace("\0", ""),  # which PostgreSQL does not keep
                "failed_at_ms": failed.published_at_ms,
                "resend": 0,
            }
            resends[promotion_id, user_id] = resend_of(failed)
    with shop.database.writing() as connection:
        _save(connection, found, resends)


def _save(connection: Connection, found: Mapping[Key, Mapping[str, object]], resends: Mapping[Key, int]) -> None:
    """A row that a later resend has taken is about that one: it stays."""
    known = _known(connection, list(found))
    fresh = [row for key, row in found.items() if key not in known]
    if fresh:
        connection.execute(insert(failures), fresh)
    again = [
        {f"new_{name}": value for name, value in {**row, "at_most": resends[key]}.items()}
        for key, row in found.items()
        if key in known
    ]
    if again:
        where = (
            (failures.c.promotion_id == bindparam("new_promotion_id"))
            & (failures.c.user_id == bindparam("new_user_id"))
            & (failures.c.resend <= bindparam("new_at_most"))
        )
        change = update(failures).where(where)
        for name in ("reason", "failed_at_ms", "resend"):
            change = change.values({name: bindparam(f"new_{name}")})
        connection.execute(change, again)


def _known(connection: Connection, keys: Sequence[Key]) -> set[Key]:
    by_promotion: dict[int, list[int]] = {}
    for promotion_id, user_id in keys:
        by_promotion.setdefault(promotion_id, []).append(user_id)
    known: set[Key] = set()
    for promotion_id, users in by_promotion.items():
        where = (failures.c.promotion_id == promotion_id) & failures.c.user_id.in_(users)
        rows = connection.execute(select(failures.c.user_id).where(where)).scalars()
        known |= {(promotion_id, user) for user in rows}
    return known
