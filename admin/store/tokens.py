"""Tokens in SQL."""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection, Row, column, delete, insert, select, table

from admin.domain.errors import UnknownToken
from admin.domain.names import Group, TokenId
from admin.ports import Token
from admin.store.databases.database import Database
from admin.store.runs.rows import instant_of, ms_of
from admin.store.tables import tokens

_SCHEMA = table("alembic_version", column("version_num"))

KNOWN_SECONDS = 5.0  # what another admin revoked is let in for so long


class SqlTokens:
    """Implements TokenStore. Remembers for a short while those that were found, as each call asks."""

    def __init__(self, database: Database, monotonic: Callable[[], float]) -> None:
        self._database = database
        self._monotonic = monotonic
        self._found: dict[str, tuple[Token, float]] = {}

    async def add(self, digests: Mapping[str, Token]) -> None:
        await self._database.write(lambda connection: _add(connection, digests))

    async def add_first(self, make: Callable[[], Mapping[str, Token]]) -> bool:
        """Under the lock of the row that says what the schema is at: there is no other one that is there for sure."""

        def work(connection: Connection) -> bool:
            connection.execute(select(_SCHEMA).with_for_update()).all()
            if connection.execute(select(tokens.c.id).limit(1)).first() is not None:
                return False
            _add(connection, make())
            return True

        return await self._database.write(work)

    async def get(self, digest: str) -> Token | None:
        found, now = self._found, self._monotonic()
        token, until = found.get(digest, (None, now))
        if token is not None and now < until:
            return token
        query = select(tokens).where(tokens.c.digest == digest)
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            found.pop(digest, None)
            return None
        token = _token_of(row)
        found[digest] = (token, now + KNOWN_SECONDS)  # into what a revocation since has put aside, if there was one
        return token

    async def list(self) -> Sequence[Token]:
        query = select(tokens).order_by(tokens.c.id)
        return await self._database.read(lambda connection: [_token_of(row) for row in connection.execute(query)])

    async def cancel(self, token_id: TokenId) -> None:
        def work(connection: Connection) -> None:
            if connection.execute(delete(tokens).where(tokens.c.id == token_id)).rowcount == 0:
                raise UnknownToken(token_id=token_id)

        await self._database.write(work)
        self._found = {}


def _add(connection: Connection, digests: Mapping[str, Token]) -> None:
    values = [
        {
            "id": token.id,
            "name": token.name,
            "digest": digest,
            "group_name": token.group,
            "created_ms": ms_of(token.created_at),
        }
        for digest, token in digests.items()
    ]
    connection.execute(insert(tokens), values)


def _token_of(row: Row[*tuple[object, ...]]) -> Token:
    group = None if row.group_name is None else Group(row.group_name)
    return Token(TokenId(row.id), row.name, group, instant_of(row.created_ms))
