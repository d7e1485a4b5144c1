"""What an executor can be told from outside."""

import os
import socket
from pathlib import Path

from pydantic import Field

from protos.settings import Settings


class ExecutorSettings(Settings):
    """Settings of the executor daemon; environment names begin with SHARDCAST_."""

    admin: str = "127.0.0.1:8082"  # host:port of the admin's gRPC
    broker: str = "127.0.0.1:8081"
    token: str = Field(default="", repr=False)  # of the executor group, for the admin
    broker_token: str = Field(default="", repr=False)
    data: Path = Path("shardcast-data/executor")  # holds reports that the admin has not accepted yet
    slots: int = Field(default=4, ge=1, le=1024)  # shards run side by side
    name: str = Field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    drain_seconds: float = Field(default=25.0, ge=0)
    release_seconds: float = Field(default=5.0, ge=0)  # of a drain: then handlers are asked to stop at their next batch
    connect_seconds: float = Field(default=20, gt=0)  # an admin that is not found for so long at the start is an error
