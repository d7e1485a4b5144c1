"""Who may do what: tokens made, checked, listed and revoked."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

from admin.domain.names import Group, TokenId
from admin.ports import Clock, Token, TokenStore
from protos.errors import PermissionDenied, Unauthenticated

ANY_GROUP = Group("*")
ADMIN_TOKEN = "admin"
EXECUTOR_TOKEN = "executor"


class Access:
    """Tokens: an administrator's may do everything, a group's may join that group."""

    def __init__(
        self, tokens: TokenStore, clock: Clock, new_id: Callable[[], str], new_secret: Callable[[], str]
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self._new_id = new_id
        self._new_secret = new_secret

    async def authenticate(self, secret: str) -> Token:
        """Raises Unauthenticated."""
        token = await self._tokens.get(_digest(secret)) if secret else None
        if token is None:
            raise Unauthenticated
        return token

    async def authenticate_admin(self, secret: str) -> Token:
        """Raises Unauthenticated, PermissionDenied."""
        token = await self.authenticate(secret)
        if token.group is not None:
            raise PermissionDenied(reason="it is for executors; an administrator's is needed")
        return token

    async def create(self, name: str, group: Group | None) -> tuple[Token, str]:
        """A new token and its secret, which nobody can read again."""
        secret, token = self._new_secret(), self._new(name, group)
        await self._tokens.add({_digest(secret): token})
        return token, secret

    async def begin(self, keep: Callable[[Mapping[str, str]], None]) -> bool:
        """Where there is no token yet, makes the first two; `keep` gets the secrets before they are valid, and other
        ones in their place if the database wants all to be done anew. Whether they were made here: of several admins
        that begin at once one makes them.
        """

        def make() -> Mapping[str, Token]:
            secrets = {ADMIN_TOKEN: self._new_secret(), EXECUTOR_TOKEN: self._new_secret()}
            keep(secrets)
            groups = {ADMIN_TOKEN: None, EXECUTOR_TOKEN: ANY_GROUP}
            return {_digest(secrets[name]): self._new(name, group) for name, group in groups.items()}

        return await self._tokens.add_first(make)

    async def list(self) -> Sequence[Token]:
        return await self._tokens.list()

    async def revoke(self, token_id: TokenId) -> None:
        """Raises UnknownToken. Links that are open stay open."""
        await self._tokens.cancel(token_id)

    def _new(self, name: str, group: Group | None) -> Token:
        return Token(TokenId(self._new_id()), name, group, self._clock())


def check_group(token: Token, group: Group) -> None:
    """Raises PermissionDenied unless the token may join the group."""
    if token.group not in (None, ANY_GROUP, group):
        raise PermissionDenied(reason=f"it is for the group {token.group}, not {group}")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
