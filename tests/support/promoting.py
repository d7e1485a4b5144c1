"""A shop with users on a test server, and what a test does there: save promotions, look at what is sent."""

import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from examples.marketing.app import marketing
from examples.marketing.jobs import jobs
from examples.marketing.messages import InformType, Phase, PromotionSaved, PromotionType, PushMessage
from examples.marketing.promotions.model import Promotion, PromotionOrder, to_ms
from examples.marketing.promotions.states import Verb
from examples.marketing.settings import FILE_VARIABLE, Admin, RocketMq, Settings
from examples.marketing.shop import Shop, opened
from examples.marketing.store import progress, promotions
from examples.marketing.store.progress import Counts, Source
from examples.marketing.store.tables import users
from examples.marketing.topics import BUCKET_GROUP, COUNTED_GROUP, LAUNCH_GROUP, PROMOTION_SAVED, SEND
from shardcast import Executor, Message, Producer, ReceivedMessage
from shardcast.testing import TestServer
from shardcast.testing.executors import ChildExecutor

USERS = 5_000
START = datetime(2026, 12, 1, tzinfo=UTC)


def an_order(now: datetime, **fields: object) -> PromotionOrder:
    given: dict[str, object] = {
        "promotion_type": PromotionType.PLATFORM_PROMOTION,
        "main_message": "Half price",
        "message": "Today only",
        "inform_type": InformType.APP_PUSH,
        "starts_at": now,
        "ends_at": now + timedelta(days=30),
    }
    return PromotionOrder.model_validate(given | fields)


def a_user(number: int) -> Mapping[str, object]:
    city = "Paris" if number % 3 == 0 else "Rome"
    return {"id": number, "name": "u", "city": city, "level": "gold", "age": 30, "spent_90d_cents": 0}


def event_of(promotion: Promotion, phase: Phase | None = None) -> Message:
    """What is published when it is saved."""
    event = PromotionSaved(
        promotion_id=promotion.id,
        version=promotion.version,
        phase=phase or promotion.phase,
        first_id=promotion.first_id,
        last_id=promotion.last_id,
        send_at_ms=to_ms(promotion.order.send_at) if promotion.order.send_at else 0,
    )
    return Message(event.model_dump_json().encode(), key=str(promotion.id))


def until(check: Callable[[], object], seconds: float = 20.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < give_up_at, "it never came"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Scene:
    """A test's way to all of it."""

    server: TestServer
    shop: Shop
    producer: Producer

    def app(self) -> Executor:
        """An executor that works in this shop."""

        @asynccontextmanager
        async def lifespan() -> AsyncIterator[Shop]:
            yield self.shop

        return marketing(lifespan)

    def add_users(self, ids: Iterable[int]) -> None:
        with self.shop.database.writing() as connection:
            if rows := list(map(a_user, ids)):
                connection.execute(insert(users), rows)

    def start_process(self) -> ChildExecutor:
        """The same as a process of its own, by the real clock."""
        return self.server.start_process(
            "examples.marketing.app:app", environment={FILE_VARIABLE: str(self.settings_file)}
        )

    @property
    def settings_file(self) -> Path:
        path = self.shop.settings.admin.token_file
        assert path is not None
        return path.with_name("marketing.yaml")

    def save(self, promotion_id: int | None = None, **fields: object) -> Promotion:
        """Without the event."""
        order = an_order(self.server.now, **fields)
        save_id, now_ms = uuid.uuid4().hex, self.shop.now_ms
        with self.shop.database.writing() as connection:
            return promotions.save(connection, order, save_id=save_id, promotion_id=promotion_id, now_ms=now_ms)

    def launch(self, **fields: object) -> Promotion:
        saved = self.save(**fields)
        self.publish(PROMOTION_SAVED, event_of(saved))
        return saved

    def publish(self, topic: str, *messages: Message) -> None:
        self.producer.publish_batch(topic, messages)

    def now(self, promotion: Promotion) -> Promotion:
        with self.shop.database.reading() as connection:
            return promotions.get(connection, promotion.id)

    def move(self, promotion: Promotion, verb: Verb) -> Promotion:
        with self.shop.database.writing() as connection:
            return promotions.move(connection, promotion.id, verb, reason="", now_ms=self.shop.now_ms)

    def counts(self, promotion: Promotion, phase: Phase = Phase.REST) -> Counts:
        with self.shop.database.reading() as connection:
            return progress.of(connection, promotion.id)[phase]

    def handle(self, promotion: Promotion, counts: Counts, phase: Phase = Phase.REST) -> None:
        """As if the delivery had come so far."""
        with self.shop.database.writing() as connection:
            source = Source(promotion.id, phase, f"delivery/{uuid.uuid4()}")
            progress.add(connection, source, range(1), counts)

    def steward(self) -> object:
        """One round: what it did."""
        return self.server.wait(self.server.trigger("marketing-steward")).results[0]

    def wait(self) -> None:
        """Until every event and every bucket is done with, and counted."""
        for group in (LAUNCH_GROUP, BUCKET_GROUP, COUNTED_GROUP):
            self.server.wait_read(group)

    def messages(self, promotion: Promotion, topic: str = SEND) -> Sequence[ReceivedMessage]:
        return [each for each in self.server.messages(topic) if (each.key or "").startswith(f"{promotion.id}:")]

    def sent(self, promotion: Promotion, topic: str = SEND) -> Counter[int]:
        """How many messages each user got."""
        return Counter(PushMessage.model_validate_json(each.body).user_id for each in self.messages(promotion, topic))


def once_each(user_ids: Sequence[int] | range) -> Counter[int]:
    return Counter(dict.fromkeys(user_ids, 1))


@contextmanager
def a_scene(
    data: Path, count: int = USERS, *, start: datetime | None = START, runs: bool = True, by_hand: bool = True
) -> Iterator[Scene]:
    """With an executor, unless it is said that none `runs`; the steward has no trigger where it is called `by_hand`."""
    with TestServer(start=start) as server, Producer(server.broker) as producer:
        token = data / "token"
        token.write_text(server.token)
        settings = Settings(
            rocketmq=RocketMq(name_server=server.broker),
            admin=Admin(server=server.http, token_file=token),
            database=f"sqlite:///{data / 'shop.db'}",
        )
        with opened(settings, lambda: server.now) as shop:
            scene = Scene(server, shop, producer)
            scene.settings_file.write_text(settings.model_dump_json())
            scene.add_users(range(1, count + 1))
            server.apply({"jobs": [_by_hand(job) if by_hand else job for job in jobs()]})
            if runs:
                server.start_executor(scene.app())
            yield scene


def _by_hand(job: Mapping[str, object]) -> Mapping[str, object]:
    return {**job, "trigger": {"manual": True}} if job["name"] == "marketing-steward" else job
