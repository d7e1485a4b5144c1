"""The admin's settings."""

from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from protos.settings import Settings


class DatabaseSettings(BaseModel):
    """Where the books are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = ""  # SQLAlchemy URL; "": SQLite in the data directory, which the admin migrates by itself


class WakeupSettings(BaseModel):
    """How admins that share a database wake each other; they find everything by polling too, only later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    redis_url: str = Field(default="", repr=False)  # "": over the database if it is PostgreSQL, else not at all
    namespace: str = Field(default="shardcast", pattern=r"^[A-Za-z0-9_.-]{1,48}$")  # of those that share a Redis

    @field_validator("redis_url")
    @classmethod
    def _is_of_redis(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("the URL of a Redis begins with redis://, rediss:// or unix://")
        return value


class AdminSettings(Settings):
    """Settings of the admin daemon."""

    data: Path = Path("shardcast-data/admin")
    host: str = "127.0.0.1"
    http_port: int = Field(8080, ge=0, le=65535)
    grpc_port: int = Field(8082, ge=0, le=65535)
    broker: str = "127.0.0.1:8081"  # host:port; topics and groups are asked for there
    broker_token: str = Field(default="", repr=False)  # one of the broker's access keys
    lease_seconds: float = Field(5.0, ge=0.5, le=600)  # a silent executor loses its shards after this time
    drain_seconds: float = Field(5.0, ge=0, le=600)  # for calls that are being answered when the admin stops
    database: DatabaseSettings = DatabaseSettings()
    wakeup: WakeupSettings = WakeupSettings()

    @property
    def is_embedded(self) -> bool:
        return not self.database.url

    @property
    def url(self) -> str:
        return self.database.url or f"sqlite:///{(self.data / 'admin.db').absolute()}"

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)
