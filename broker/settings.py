"""The broker's settings."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from broker.log.commit_log import SEGMENT_BYTES, Durability
from broker.log.index.keys import MOST_SEGMENT_BYTES
from broker.producers.transactions import MOST_OPEN
from protos.settings import Settings

AccessKey = Annotated[SecretStr, Field(min_length=1)]
LEAST_SEGMENT_BYTES = 16 << 20  # one publish of 8 MiB with its head always fits


class BrokerSettings(Settings):
    """Frozen and checked; BadConfiguration names every fault at once."""

    data: Path = Path("shardcast-data/broker")
    host: str = "127.0.0.1"
    port: int = Field(default=8081, ge=0, le=65_535)
    metrics_port: int | None = Field(default=None, ge=0, le=65_535)  # none: no metrics over HTTP
    segment_bytes: int = Field(default=SEGMENT_BYTES, ge=LEAST_SEGMENT_BYTES, le=MOST_SEGMENT_BYTES)
    checkpoint_bytes: int = Field(default=64 << 20, ge=1 << 20)
    durability: Durability = Durability.FSYNC
    sync_interval_ms: int = Field(default=500, ge=1, le=60_000)
    disk_reserve_bytes: int = Field(default=1 << 30, ge=0)
    open_transactions: int = Field(default=MOST_OPEN, ge=0, le=1_000_000)
    retention_hours: float = Field(default=72, ge=0)  # 0: for ever
    retention_bytes: int = Field(default=0, ge=0)  # of the whole log; 0: no limit
    groups_hold_days: float = Field(default=7, ge=0)  # what a group has not read, after its last member
    connections: int = Field(default=1_024, ge=1)
    publish_streams: int = Field(default=1_024, ge=1)  # open at the same time
    reads: int = Field(default=8_192, ge=1)  # fetches and leases at the same time, those that wait included
    create_topics: bool = True
    access_keys: Annotated[tuple[AccessKey, ...], NoDecode] = ()
    insecure: bool = False

    @field_validator("access_keys", mode="before")
    @classmethod
    def _split(cls, keys: object) -> object:
        """The environment and a file of secrets give one text."""
        return keys.replace(",", " ").split() if isinstance(keys, str) else keys

    @model_validator(mode="after")
    def _refuse_an_open_door(self) -> Self:
        if not (self.access_keys or self.insecure or _is_loopback(self.host)):
            raise ValueError(f"listening on {self.host} needs access_keys, or --insecure")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
