"""The table of failures and the numbers of progress, as messages about them come, and come again."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from examples.marketing.delivery.failing import keep_failures
from examples.marketing.messages import Counted, Phase
from examples.marketing.steering.counting import count
from examples.marketing.store import progress
from examples.marketing.store.progress import Counts
from examples.marketing.store.tables import failures
from examples.marketing.topics import COUNTED, FAILED
from shardcast import Fail, Message, ReceivedMessage
from tests.support.admin_databases import fresh_database
from tests.support.marketing import NOW, Office, an_office, received
from tests.support.shops import Clock, empty_shop


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with an_office(tmp_path) as office:
        yield office


def failed(office: Office, users: Sequence[int], reason: str = "no such device") -> list[ReceivedMessage]:
    message = office.launched().message
    sent = [message.to(user) for user in users]
    return received([Message(each.body, each.key, properties={"reason": reason}) for each in sent], topic=FAILED)


def rows(office: Office) -> list[tuple[int, str, int]]:
    asked = select(failures.c.user_id, failures.c.reason, failures.c.resend).order_by(failures.c.user_id)
    with office.desk.shop.database.reading() as connection:
        return [(row[0], row[1], row[2]) for row in connection.execute(asked)]


def test_who_got_nothing_is_written_down_with_the_reason(office: Office) -> None:
    messages = failed(office, [3, 1, 3])
    keep_failures(
        [*messages, *received([Message(b"{", properties={"reason": "no JSON"})], topic=FAILED)], office.desk.shop
    )
    assert rows(office) == [(1, "no such device", 0), (3, "no such device", 0)]


def test_a_failure_that_comes_again_does_not_undo_a_resend_and_a_new_one_does(office: Office) -> None:
    messages = failed(office, [1, 2])
    keep_failures(messages, office.desk.shop)
    with office.desk.shop.database.writing() as connection:
        connection.execute(update(failures).values(resend=1))
    keep_failures(messages, office.desk.shop)
    assert rows(office) == [(1, "no such device", 1), (2, "no such device", 1)]
    later = Message(messages[0].body, properties={"reason": "asleep", "resend": "1"})
    set_back = office.clock() - timedelta(hours=1)  # the broker's clock may be
    keep_failures(received([later], topic=FAILED, at=set_back), office.desk.shop)
    assert rows(office) == [(1, "asleep", 0), (2, "no such device", 1)]


def test_numbers_are_added_once_however_the_batches_are_cut(office: Office) -> None:
    told = [Counted(promotion_id=1, phase=Phase.REST, delivered=10, failed=1)] * 3
    canaries = [Counted(promotion_id=1, phase=Phase.CANARY, dropped=2, capped=3)]
    messages = received(
        [Message(each.model_dump_json().encode()) for each in [*told, *canaries]], topic=COUNTED, at=NOW
    )
    for span in (slice(0, 2), slice(0, 3), slice(1, 4), slice(0, 4)):
        count(messages[span], office.desk.shop)
    with office.desk.shop.database.reading() as connection:
        assert progress.of(connection, 1) == {
            Phase.REST: Counts(delivered=30, failed=3),
            Phase.CANARY: Counts(dropped=2, capped=3),
        }


@pytest.mark.parametrize(
    "body", [b"{", b"", b"[]", b'{"promotion_id": 1, "phase": "rest", "failed": -1}', b'{"promotion_id": 1}']
)
def test_what_are_no_numbers_is_given_up_and_leaves_no_trace(office: Office, body: bytes) -> None:
    good = Message(Counted(promotion_id=1, phase=Phase.REST, delivered=10).model_dump_json().encode())
    with pytest.raises(Fail, match="these are no numbers: "):
        count(received([good, Message(body)], topic=COUNTED), office.desk.shop)
    with office.desk.shop.database.reading() as connection:
        assert progress.of(connection, 1)[Phase.REST] == Counts()


def test_numbers_that_no_database_keeps_are_none(office: Office) -> None:
    body = b'{"promotion_id": 1, "phase": "rest", "failed": %d}' % 10**30
    with pytest.raises(Fail, match="failed: Input should be less than 9223372036854775808"):
        count(received([Message(body)], topic=COUNTED), office.desk.shop)


@pytest.mark.parametrize("server", ["postgresql_server", "mariadb_server"])
def test_numbers_whose_sum_no_database_keeps_are_given_up(request: pytest.FixtureRequest, server: str) -> None:
    huge = Message(Counted(promotion_id=1, phase=Phase.REST, covered=2**63 - 1).model_dump_json().encode())
    with fresh_database(request.getfixturevalue(server)) as url, empty_shop(url, Clock()) as shop:
        messages = received([huge, huge], topic=COUNTED)
        with pytest.raises(Fail, match="these numbers cannot be kept: "):
            count(messages, shop)
        count(messages[:1], shop)
        with shop.database.reading() as connection:
            assert progress.of(connection, 1)[Phase.REST] == Counts(covered=2**63 - 1)


def test_a_reason_is_kept_without_what_no_database_keeps(office: Office) -> None:
    keep_failures(failed(office, [1], "no\0device"), office.desk.shop)
    assert rows(office) == [(1, "nodevice", 0)]
