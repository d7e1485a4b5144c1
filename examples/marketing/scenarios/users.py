"""Users made by rule, so that whoever checks knows each of them without asking the database."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice

from sqlalchemy import func, insert, select

from examples.marketing.store.database import Database
from examples.marketing.store.tables import user_tags, users

CITIES = ("Shanghai", "Berlin", "Lagos", "Lima")
LEVELS = ("basic", "silver", "gold")
TODAY = date(2026, 11, 28)
ROWS_A_WRITE = 10_000


@dataclass(frozen=True, slots=True)
class User:
    """As table `users` has them."""

    id: int
    name: str
    city: str
    level: str
    age: int
    last_order_on: date | None
    spent_90d_cents: int


def user(number: int) -> User:
    return User(
        id=number,
        name=f"user {number}",
        city=CITIES[number % 4],
        level=LEVELS[number % 3],
        age=18 + number % 60,
        last_order_on=None if number % 11 == 0 else TODAY - timedelta(days=number % 400),
        spent_90d_cents=number * 37 % 100_000,
    )


def is_vip(number: int) -> bool:
    """Whether the user has the tag `vip`."""
    return number % 10 == 0


def fill(database: Database, count: int) -> Iterator[int]:
    """Users 1 to `count`, chunk by chunk; the last of each. Those of an earlier filling with as many are used again."""
    with database.reading() as connection:
        if connection.execute(select(func.count(), func.max(users.c.id))).one() == (count, count or None):
            return
    with database.writing() as connection:
        connection.execute(user_tags.delete())
        connection.execute(users.delete())
    for rows in _chunks(range(1, count + 1)):
        with database.writing() as connection:
            connection.execute(insert(users), [_row(number) for number in rows])
            if vips := [{"user_id": number, "tag": "vip"} for number in rows if is_vip(number)]:
                connection.execute(insert(user_tags), vips)
        yield rows[-1]


def _row(number: int) -> dict[str, object]:
    made = user(number)
    return {name: getattr(made, name) for name in User.__slots__}


def _chunks(numbers: range) -> Iterator[list[int]]:
    source = iter(numbers)
    while chunk := list(islice(source, ROWS_A_WRITE)):
        yield chunk
