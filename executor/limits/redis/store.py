"""Limits in Redis: each call is one script over all its keys, which nothing comes between; Redis's clock rules."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast
from urllib.parse import urlsplit

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

from executor.errors import BadLimits, LimitsUnreachable
from executor.limits.redis import scripts
from executor.limits.rules import Answer, Cap, Claiming, Rate, Standing, Taken

TIMEOUT_SECONDS = 5.0

_STANDING = {0: Standing.OURS, -1: Standing.DONE}


class RedisStore:
    """Implements Store over one Redis. A call is sent once: a second copy might count twice."""

    def __init__(self, url: str) -> None:
        """Raises BadLimits; connects at the first call."""
        self._shown = shown(url)
        try:
            self._client = Redis.from_url(
                url,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
            )
        except ValueError as error:
            raise BadLimits(store=self._shown, reason=str(error)) from error
        self._claim = self._client.register_script(scripts.CLAIM)
        self._finish = self._client.register_script(scripts.FINISH)
        self._release = self._client.register_script(scripts.RELEASE)
        self._take = self._client.register_script(scripts.TAKE)
        self._count = self._client.register_script(scripts.COUNT)

    def claim(self, names: Sequence[str], ask: Claiming) -> Mapping[str, Answer]:
        arguments = (ask.holder, ask.claim_us, ask.window_us, int(ask.is_repeated))
        told = self._run(self._claim, "once", names, arguments)
        return {
            name: Answer(_STANDING.get(number, Standing.HELD), max(0, number))
            for name, number in zip(names, told, strict=True)
        }

    def finish(self, names: Sequence[str], holder: str, window_us: int) -> Mapping[str, bool]:
        return dict(zip(names, map(bool, self._run(self._finish, "once", names, (holder, window_us))), strict=True))

    def release(self, names: Sequence[str], holder: str) -> Mapping[str, bool]:
        return dict(zip(names, map(bool, self._run(self._release, "once", names, (holder,))), strict=True))

    def take(self, times: Mapping[str, int], n: int, rate: Rate) -> Mapping[str, Taken]:
        told = self._run(self._take, "rate", list(times), (rate.interval_us, rate.burst, n, *times.values()))
        return {name: Taken(*told[at : at + 2]) for name, at in zip(times, range(0, len(told), 2), strict=True)}

    def count(self, attempts: Mapping[str, int], cap: Cap) -> Mapping[str, int]:
        arguments = (cap.most, cap.window_us, *attempts.values())
        return dict(zip(attempts, self._run(self._count, "cap", list(attempts), arguments), strict=True))

    def close(self) -> None:
        self._client.close()

    def _run(self, script: Script, kind: str, names: Sequence[str], arguments: Sequence[str | int]) -> list[int]:
        with self._renamed():
            keys = [f"shardcast:{kind}:{name}" for name in names]
            return cast(list[int], script(keys=keys, args=list(arguments)))

    @contextmanager
    def _renamed(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise LimitsUnreachable(store=self._shown, reason=str(error) or type(error).__name__) from error


def shown(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
