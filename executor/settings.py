"""What an executor can be told from outside."""

import os
import socket
from pathlib import Path

from pydantic import Field, field_validator

from protos.settings import Settings


class ExecutorSettings(Settings):
    """Settings of the executor daemon; environment names begin with SHARDCAST_."""

    admin: str = "127.0.0.1:8082"  # host:port of the admin's gRPC; of several, with commas between
    broker: str = "127.0.0.1:8081"
    token: str = Field(default="", repr=False)  # of the executor group, for the admin
    broker_token: str = Field(default="", repr=False)
    data: Path = Path("shardcast-data/executor")  # holds reports that the admin has not accepted yet
    host: str = "127.0.0.1"  # of the probe
    probe_port: int | None = Field(default=None, ge=0, le=65_535)  # none: it listens nowhere
    slots: int = Field(default=4, ge=1, le=1024)  # shards run side by side
    name: str = Field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    drain_seconds: float = Field(default=25.0, ge=0, allow_inf_nan=False)
    # Of a drain: then handlers are asked to stop at their next batch.
    release_seconds: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    shell_allow: str = ""  # programs that the handler `shell` may run, with commas between them; none: no such handler
    connect_seconds: float = Field(default=20, gt=0)  # an admin that is not found for so long at the start is an error

    @property
    def admins(self) -> tuple[str, ...]:
        """Any one of them will do."""
        return tuple(dict.fromkeys(address.strip() for address in self.admin.split(",")))

    @property
    def allowed_programs(self) -> tuple[str, ...]:
        return tuple(each.strip() for each in self.shell_allow.split(",") if each.strip())

    @field_validator("admin")
    @classmethod
    def _is_each_an_address(cls, value: str) -> str:
        if not all(address.strip() for address in value.split(",")):
            raise ValueError('each admin is "host:port", and a comma stands between two of them')
        return value

    @field_validator("token", "broker_token")
    @classmethod
    def _can_be_sent(cls, value: str) -> str:
        if not (value.isascii() and value.isprintable()):
            raise ValueError("it holds characters that no token has")
        return value

    @field_validator("name")
    @classmethod
    def _can_be_shown(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("use printable characters")
        return value
