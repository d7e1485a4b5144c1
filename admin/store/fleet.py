"""In SQL: which admins are awake, and which executors are linked to them."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, select

from admin.domain.names import AdminId, ExecutorId, Group, HandlerName
from admin.ports import Executor, Others
from admin.store.databases import many
from admin.store.databases.database import Database
from admin.store.runs.rows import instant_of, ms_of
from admin.store.tables import admins, executors

FORGOTTEN = timedelta(hours=1)  # an admin that was silent for so long is gone


class SqlFleet:
    """Implements FleetBook."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def extend(self, admin: AdminId, linked: Sequence[Executor], now: datetime, lease: timedelta) -> Others:
        def work(connection: Connection) -> Others:
            at = self._database.now(connection)
            _forget(connection, admin)
            many.insert(connection, admins, [{"id": admin, "seen_ms": ms_of(at)}])
            rows = [_values(executor, admin, at - (now - executor.seen_at)) for executor in linked]
            many.insert(connection, executors, rows)
            _forget(
                connection, *connection.scalars(select(admins.c.id).where(admins.c.seen_ms < ms_of(at - FORGOTTEN)))
            )
            return _others(connection, admin, at, now, lease)

        return await self._database.write(work)

    async def release(self, admin: AdminId) -> None:
        await self._database.write(lambda connection: _forget(connection, admin))


def _forget(connection: Connection, *gone: str) -> None:
    """Admins and who was linked to them."""
    many.delete(connection, executors, "admin_id", gone)
    many.delete(connection, admins, "id", gone)


def _others(connection: Connection, admin: AdminId, at: datetime, now: datetime, lease: timedelta) -> Others:
    awake = admins.c.seen_ms >= ms_of(at - lease)
    found = connection.scalars(select(admins.c.id).where(awake, admins.c.id != admin).order_by(admins.c.id)).all()
    query = select(executors).where(executors.c.admin_id.in_(found)).order_by(executors.c.id)
    return Others(
        admins=[AdminId(each) for each in found],
        executors=[_executor_of(row, now - at) for row in connection.execute(query)],
    )


def _values(executor: Executor, admin: AdminId, seen_at: datetime) -> dict[str, object]:
    body = {
        "name": executor.name,
        "group": executor.group,
        "handlers": sorted(executor.handlers),
        "slots": executor.slots,
        "used": executor.used,
        "is_draining": executor.is_draining,
        "version": executor.version,
        "connected_ms": ms_of(executor.connected_at),
        "schemas": dict(executor.schemas),
    }
    return {"id": executor.id, "admin_id": admin, "seen_ms": ms_of(seen_at), "body": json.dumps(body)}


def _executor_of(row: Row[*tuple[object, ...]], ahead: timedelta) -> Executor:
    """With its last sign of life by the clock of who asks, which is `ahead` of the database's."""
    body = json.loads(row.body)
    return Executor(
        id=ExecutorId(row.id),
        name=body["name"],
        group=Group(body["group"]),
        handlers=frozenset(map(HandlerName, body["handlers"])),
        slots=body["slots"],
        used=body["used"],
        is_draining=body["is_draining"],
        version=body["version"],
        connected_at=instant_of(body["connected_ms"]),
        seen_at=instant_of(row.seen_ms) + ahead,
        schemas={HandlerName(name): schema for name, schema in body.get("schemas", {}).items()},
    )
