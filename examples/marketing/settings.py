"""Settings, from a YAML file whose section `rocketmq` says where messages go."""

import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import httpx
import yaml
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from examples.marketing.errors import BadSettings

FILE_VARIABLE = "MARKETING_CONFIG"
DEFAULT_FILE = Path("marketing.yaml")
NAME_SERVER_PORT, BROKER_PORT, MOST_PORT = 9876, 8081, 65_535
_MOST_FAULTS, _MOST_CHARACTERS = 50, 2_000


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class RocketMq(_Section):
    """`name_server`, also read as `nameServer`: the endpoint of Shardcast's broker, "host:port"."""

    name_server: Annotated[str, Field(validation_alias=AliasChoices("name_server", "nameServer"))] = (
        f"127.0.0.1:{BROKER_PORT}"
    )

    @field_validator("name_server")
    @classmethod
    def _is_an_endpoint(cls, given: str) -> str:
        host, _, port = given.removeprefix("rocketmq://").rpartition(":")
        if not host or not port.isdecimal() or len(port) > 5 or int(port) > MOST_PORT or "/" in host:
            raise ValueError(f"{given!r} is no endpoint: give host:port")
        if int(port) == NAME_SERVER_PORT:
            raise ValueError(
                f"{NAME_SERVER_PORT} is the port of a RocketMQ name server, which takes no messages: give that of the "
                f"broker's gRPC endpoint, {host}:{BROKER_PORT}"
            )
        if given.startswith("rocketmq://"):
            raise ValueError("Apache RocketMQ is not supported yet: give host:port of Shardcast's broker")
        return given


class Admin(_Section):
    """Where jobs are started: the admin's REST API. `token_file` holds a token that may trigger jobs."""

    server: str = "http://127.0.0.1:8080"
    token_file: Path | None = None


class Provider(_Section):
    """How messages leave: `recording` writes each call to a file of each process in `directory`, `http` posts them to
    `url`, signed with the secret in `secret_file`.
    """

    kind: Literal["recording", "http"] = "recording"
    directory: Path = Path("deliveries")
    url: str = ""
    secret_file: Path | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 5.0
    connections: Annotated[int, Field(ge=1, le=256)] = 8
    batch: Annotated[int, Field(ge=1, le=1_000)] = 100

    @model_validator(mode="after")
    def _knows_where_to(self) -> Self:
        if self.kind == "http" and (not _is_http(self.url) or self.secret_file is None):
            raise ValueError("a provider of the kind http needs a url, http:// or https://, and a secret_file")
        return self


class Settings(_Section):
    """`database` is a SQLAlchemy URL; `limits` is where rates, caps and `once` count, by default in the database.

    `strategy` is how sharded jobs read the users; with `once` each delivery is claimed by its key beforehand.
    """

    rocketmq: RocketMq = RocketMq()
    admin: Admin = Admin()
    database: str = "sqlite:///marketing.db"
    limits: str | None = None
    strategy: Literal["ranges", "hash"] = "ranges"
    once: bool = False
    app_push: Provider = Provider()
    sms: Provider = Provider()
    mail: Provider = Provider()

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Of `path`, else of the file that MARKETING_CONFIG names, else of marketing.yaml, which may be absent.

        Raises BadSettings, with all faults at once.
        """
        named = path or (Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None)
        where = named or DEFAULT_FILE
        if named is None and not where.exists():
            return cls()
        try:
            return cls.model_validate(yaml.safe_load(where.read_text()) or {})
        except OSError as error:
            raise BadSettings(where=where, reason=f"{error.strerror}.") from error
        except yaml.YAMLError as error:
            raise BadSettings(where=where, reason=f"it is no YAML: {error}.") from error
        except ValidationError as error:
            raise BadSettings(where=where, reason=faults(error)) from error
        except (ValueError, RecursionError) as error:  # no text, no date, nested without end
            raise BadSettings(where=where, reason=f"it is no YAML: {error}.") from error


def _is_http(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def faults(error: ValidationError) -> str:
    """All that is wrong, as one sentence."""
    return sentence(error.errors())


def sentence(faults: Sequence[Mapping[str, Any]]) -> str:
    """Of pydantic's faults, each with the place where it is; of very many, the first ones."""
    told = (f"{_place(fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}" for fault in faults[:_MOST_FAULTS])
    text = "; ".join(told) + "."
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + " ..."


def _place(location: Sequence[object]) -> str:
    """("body", "steering", "rate") is "steering.rate"; a part of a union is told once."""
    inside = location[1:] if location[:1] == ("body",) else location
    return ".".join(str(name) for name, _ in groupby(inside)) or "it"
