"""What delivery holds while a process lives: the shop, what it knows of promotions, and the providers."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from examples.marketing import shop as shops
from examples.marketing.delivery.providers.http import Endpoint, HttpProvider
from examples.marketing.delivery.providers.port import Provider
from examples.marketing.delivery.providers.recording import RecordingProvider
from examples.marketing.delivery.reading import Reader
from examples.marketing.delivery.watching import Watch
from examples.marketing.errors import BadSettings
from examples.marketing.messages import InformType
from examples.marketing.settings import Provider as ProviderSettings
from examples.marketing.settings import Settings
from examples.marketing.shop import Shop


@dataclass(frozen=True, slots=True)
class Desk:
    shop: Shop
    reader: Reader
    watch: Watch
    providers: Mapping[InformType, Provider]


@contextmanager
def opened(shop: Shop) -> Iterator[Desk]:
    """Raises BadSettings."""
    chosen = {
        InformType.APP_PUSH: shop.settings.app_push,
        InformType.SMS: shop.settings.sms,
        InformType.MAIL: shop.settings.mail,
    }
    with ExitStack() as stack:
        providers = {
            channel: stack.enter_context(closing(provider_of(settings, shop.clock)))
            for channel, settings in chosen.items()
        }
        yield Desk(shop, Reader(), Watch(shop.database), providers)


@asynccontextmanager
async def lifespan() -> AsyncIterator[Desk]:
    """Of an executor, with the settings of its environment. Raises BadSettings."""
    with shops.opened(Settings.load()) as shop, opened(shop) as desk:
        yield desk


def the_desk(state: Desk) -> Desk:
    """For `Depends`."""
    return state


def provider_of(settings: ProviderSettings, clock: Callable[[], datetime]) -> Provider:
    """Raises BadSettings."""
    if settings.kind == "recording":
        try:
            return RecordingProvider(settings.directory, clock)
        except OSError as error:
            raise BadSettings(where=settings.directory, reason=f"{error.strerror}.") from error
    assert settings.secret_file is not None  # as the settings see to
    try:
        secret = settings.secret_file.read_bytes().strip()
    except OSError as error:
        raise BadSettings(where=settings.secret_file, reason=f"{error.strerror}.") from error
    if not secret:
        raise BadSettings(where=settings.secret_file, reason="it holds no secret.")
    timeout = timedelta(seconds=settings.timeout_seconds)
    return HttpProvider(Endpoint(settings.url, secret, timeout, settings.connections, settings.batch), clock)
