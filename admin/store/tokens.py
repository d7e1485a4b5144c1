"""Tokens in SQL."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select

from admin.domain.errors import UnknownToken
from admin.domain.names import TokenId
from admin.ports import Token
from admin.store.database import Database
from admin.store.rows import ms_of, token_of
from admin.store.tables import tokens


class SqlTokens:
    """Implements TokenStore. Remembers those that were found, as each call asks and no other process writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found: dict[str, Token] = {}

    async def add(self, digests: Mapping[str, Token]) -> None:
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
        await self._database.write(lambda connection: connection.execute(insert(tokens), values))

    async def get(self, digest: str) -> Token | None:
        found = self._found
        if (known := found.get(digest)) is not None:
            return known
        query = select(tokens).where(tokens.c.digest == digest)
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            return None
        found[digest] = token = token_of(row)  # into what a revocation since has put aside, if there was one
        return token

    async def list(self) -> Sequence[Token]:
        query = select(tokens).order_by(tokens.c.id)
        return await self._database.read(lambda connection: [token_of(row) for row in connection.execute(query)])

    async def cancel(self, token_id: TokenId) -> None:
        def work(connection: Connection) -> None:
            if connection.execute(delete(tokens).where(tokens.c.id == token_id)).rowcount == 0:
                raise UnknownToken(token_id=token_id)

        await self._database.write(work)
        self._found = {}
