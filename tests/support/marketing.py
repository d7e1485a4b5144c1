"""A desk of the marketing system over SQLite, with a clock of its own, and push messages as they arrive."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from examples.marketing.delivery import desk as desks
from examples.marketing.delivery.delivering import deliver
from examples.marketing.delivery.desk import Desk
from examples.marketing.messages import Counted, InformType, Phase, PromotionType
from examples.marketing.promotions.model import Promotion, PromotionOrder
from examples.marketing.promotions.states import Verb
from examples.marketing.settings import Provider, Settings
from examples.marketing.shop import opened
from examples.marketing.store import promotions
from examples.marketing.topics import COUNTED, SEND
from shardcast import Handled, Message, ReceivedMessage

SECRET = b"a secret"
NOW = datetime(2026, 12, 1, 1, tzinfo=UTC)


def order(**fields: object) -> PromotionOrder:
    """At one in the morning, UTC."""
    given = {
        "promotion_type": PromotionType.PLATFORM_PROMOTION,
        "main_message": "Half price",
        "message": "Today only",
        "inform_type": InformType.APP_PUSH,
        "starts_at": NOW,
        "ends_at": NOW + timedelta(days=30),
    }
    return PromotionOrder.model_validate(given | fields)


class Clock:
    """Stands until a test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


def received(
    messages: Sequence[Message], *, topic: str = SEND, at: datetime = NOW, first_offset: int = 0
) -> list[ReceivedMessage]:
    """As a queue holds them."""
    return [
        ReceivedMessage(
            body=each.body,
            key=each.key,
            tag=each.tag,
            properties=each.properties,
            topic=topic,
            deliver_at=each.deliver_at,
            queue=1,
            offset=first_offset + index,
            published_at_ms=round(at.timestamp() * 1000),
            log_id="0" * 32,
            topic_id=7,
        )
        for index, each in enumerate(messages)
    ]


@dataclass(frozen=True)
class Counter:
    """What came of a call of `deliver`: what goes on, by topic, and the numbers."""

    handled: Handled
    messages: Sequence[Message]

    def to(self, topic: str) -> list[Message]:
        return [each for each in self.messages if each.topic == topic]

    def users(self, topic: str) -> list[int]:
        return [json.loads(each.body)["user_id"] for each in self.to(topic)]

    @property
    def counts(self) -> dict[tuple[int, Phase], dict[str, int]]:
        """What is not zero."""
        found = [Counted.model_validate_json(each.body) for each in self.to(COUNTED)]
        return {
            (each.promotion_id, each.phase): {
                name: value for name, value in each.model_dump(exclude={"promotion_id", "phase"}).items() if value
            }
            for each in found
        }


class Office:
    """A desk, its clock, and promotions made for it."""

    def __init__(self, desk: Desk, clock: Clock, directory: Path) -> None:
        self.desk = desk
        self.clock = clock
        self._directory = directory
        self._saves = count()

    def launched(self, **fields: object) -> Promotion:
        with self.desk.shop.database.writing() as connection:
            saved = promotions.save(
                connection, order(**fields), save_id=str(next(self._saves)), now_ms=self.desk.shop.now_ms
            )
        return self.move(saved, Verb.LAUNCH)

    def move(self, promotion: Promotion, verb: Verb) -> Promotion:
        """And lets so much time pass that everybody heard of it."""
        with self.desk.shop.database.writing() as connection:
            moved = promotions.move(connection, promotion.id, verb, reason="", now_ms=self.desk.shop.now_ms)
        self.clock.advance(seconds=1)
        return moved

    def deliver(self, messages: Sequence[Message], **how: object) -> Counter:
        arrived = messages if messages and isinstance(messages[0], ReceivedMessage) else received(messages, **how)  # type: ignore[arg-type]
        handled = deliver(list(arrived), self.desk)  # type: ignore[arg-type]
        assert not isinstance(handled.publish, Message)
        return Counter(handled, list(handled.publish))

    def recorded(self) -> list[int]:
        """The users in the recording provider's file, in the order of the calls."""
        lines = [line for file in self._directory.glob("*.jsonl") for line in file.read_text().splitlines()]
        return [int(json.loads(line)["user_id"]) for line in lines]


@contextmanager
def an_office(directory: Path, url: str | None = None, **fields: object) -> Iterator[Office]:
    """`url` is that of an HTTP provider for app push; all else is recorded."""
    clock, secret = Clock(), directory / "secret"
    secret.write_bytes(SECRET)
    recording = Provider(directory=directory / "deliveries")
    http = (
        Provider(kind="http", url=url or "", secret_file=secret, timeout_seconds=5, connections=2, batch=10)
        if url
        else recording
    )
    given: dict[str, object] = {"app_push": http, "sms": recording, "mail": recording, "limits": "memory://"}
    database = f"sqlite:///{directory / 'shop.db'}"
    settings = Settings.model_validate({"database": database, **given, **fields})
    with opened(settings, clock) as shop, desks.opened(shop) as desk:
        yield Office(desk, clock, directory / "deliveries")
