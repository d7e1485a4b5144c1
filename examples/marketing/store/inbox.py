"""Which group has done with which event: a row, written in the transaction of what it did."""

from sqlalchemy import Connection, insert
from sqlalchemy.exc import IntegrityError

from examples.marketing.store.tables import inbox


def is_first(connection: Connection, group: str, event_id: str) -> bool:
    """Whether the event is new to the group, which has it from now on. Waits for another one who is at it."""
    try:
        with connection.begin_nested():
            connection.execute(insert(inbox).values(group_name=group, event_id=event_id))
    except IntegrityError:
        return False
    return True
