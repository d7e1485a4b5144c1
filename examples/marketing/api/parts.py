"""What routes ask for."""

from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request

from examples.marketing.api.samples import Samples
from examples.marketing.shop import Shop
from shardcast import aio

MOST_ID = 2**63 - 1


def _shop(request: Request) -> Shop:
    shop: Shop = request.app.state.shop
    return shop


def _producer(request: Request) -> aio.Producer:
    producer: aio.Producer = request.app.state.producer
    return producer


def _samples(request: Request) -> Samples:
    samples: Samples = request.app.state.samples
    return samples


TheShop = Annotated[Shop, Depends(_shop)]
TheProducer = Annotated[aio.Producer, Depends(_producer)]
TheSamples = Annotated[Samples, Depends(_samples)]

Id = Annotated[int, Path(ge=1, le=MOST_ID)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=64)]
"""By which a request is known when it comes again."""
Limit = Annotated[int, Query(ge=1, le=1_000)]
