"""Definitions as they were kept: they never change, so that what was read once is known."""

import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import Connection, insert, select

from admin.domain.form import definition_of, form_of
from admin.domain.job import JobDefinition
from admin.domain.names import DefinitionId, JobId
from admin.store.tables import definitions

T = TypeVar("T")

KEY_BITS = 62
MOST_KNOWN = 20_000  # some 2 KiB each
CHUNK = 400  # keys a statement, under every database's limit of parameters


class Definitions:
    """The copies that runs and jobs refer to; used by the threads of all transactions."""

    def __init__(self) -> None:
        self._known: OrderedDict[DefinitionId, JobDefinition] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, connection: Connection, job_id: JobId, definition: JobDefinition) -> DefinitionId:
        """Keeps one for good, under a number that nobody ever had: what was counted up would be given again behind a
        transaction that failed, and known here as something else.
        """
        body = json.dumps(form_of(definition), ensure_ascii=False, separators=(",", ":"))
        key = DefinitionId(secrets.randbits(KEY_BITS))
        connection.execute(insert(definitions).values(id=key, job_id=job_id, job=definition.name, body=body))
        return key

    def get(self, connection: Connection, ids: Iterable[DefinitionId]) -> Mapping[DefinitionId, JobDefinition]:
        """All of them."""
        wanted = set(ids)
        with self._lock:
            found = {each: self._known[each] for each in wanted if each in self._known}
            if len(self._known) > MOST_KNOWN // 2:  # some may have to go soon
                for each in found:
                    self._known.move_to_end(each)
        missing = sorted(wanted - found.keys())
        for start in range(0, len(missing), CHUNK):
            query = select(definitions.c.id, definitions.c.body).where(
                definitions.c.id.in_(missing[start : start + CHUNK])
            )
            for key, body in connection.execute(query):
                found[DefinitionId(key)] = definition_of(json.loads(body))
        if missing:
            self._keep({key: found[key] for key in missing})
        return found

    def _keep(self, new: Mapping[DefinitionId, JobDefinition]) -> None:
        with self._lock:
            self._known.update(new)
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)


def chunks(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """As many at once as a statement takes."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
