"""What a test does to the executors of its server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from anyio.from_thread import BlockingPortal

from shardcast.testing.proxy import Direction, Proxy
from shardcast.testing.world import AnyExecutor, World

Far = Literal["admin", "broker"]


class Faults:
    """Faults of links and processes; each executor has links of its own."""

    def __init__(self, world: World, portal: BlockingPortal) -> None:
        self._world = world
        self._portal = portal

    def kill(self, executor: AnyExecutor) -> None:
        """Ends it without a word to anybody: its shards go to others when their leases lapse.

        A ChildExecutor gets SIGKILL. Of a LocalExecutor nothing gets out any more, its coroutines are cancelled, and a
        handler in a thread runs on until it next needs its context: what it does beside that is done.
        """
        self._portal.call(self._world.kill, executor)

    @contextmanager
    def link_cut(self, executor: AnyExecutor, to: Far | None = None) -> Iterator[None]:
        """Inside the block the executor reaches neither admin nor broker, or not the one that is named."""
        with self._disturbed(executor, to, Proxy.cut):
            yield

    @contextmanager
    def acknowledgements_dropped(self, executor: AnyExecutor, of: Far = "broker") -> Iterator[None]:
        """Inside the block what the executor says arrives, but no answer does; then the connections break.

        So what it published is stored and not acknowledged, and it has to send it again.
        """
        with self._disturbed(executor, of, lambda proxy: proxy.freeze(Direction.DOWN)):
            yield

    @contextmanager
    def _disturbed(self, executor: AnyExecutor, far: Far | None, disturb: Callable[[Proxy], None]) -> Iterator[None]:
        links = executor.links
        proxies = [proxy for name, proxy in (("admin", links.admin), ("broker", links.broker)) if far in (None, name)]
        self._portal.call(_each, disturb, proxies)
        try:
            yield
        finally:
            self._portal.call(_each, _mended, proxies)


def _each(action: Callable[[Proxy], None], proxies: list[Proxy]) -> None:
    for proxy in proxies:
        action(proxy)


def _mended(proxy: Proxy) -> None:
    """What was held is lost."""
    proxy.sever()
    proxy.restore()
