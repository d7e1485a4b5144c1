"""Tokens in memory."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from admin.domain.errors import UnknownToken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from admin.domain.names import TokenId
    from admin.ports import Token


class MemoryTokens:
    """Implements TokenStore."""

    def __init__(self) -> None:
        self._by_digest: dict[str, Token] = {}

    async def add(self, digests: Mapping[str, Token]) -> None:
        self._by_digest.update(digests)

    async def add_first(self, make: Callable[[], Mapping[str, Token]]) -> bool:
        if self._by_digest:
            return False
        self._by_digest.update(make())
        return True

    async def get(self, digest: str) -> Token | None:
        return self._by_digest.get(digest)

    async def list(self) -> Sequence[Token]:
        return sorted(self._by_digest.values(), key=attrgetter("id"))

    async def cancel(self, token_id: TokenId) -> None:
        kept = {digest: token for digest, token in self._by_digest.items() if token.id != token_id}
        if len(kept) == len(self._by_digest):
            raise UnknownToken(token_id=token_id)
        self._by_digest = kept
