"""How each daemon reads its settings: flag > environment > shardcast.toml > default, all faults told at once."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from protos.errors import BadConfiguration

PREFIX = "SHARDCAST_"
FILE_SUFFIX = "_FILE"  # SHARDCAST_TOKEN_FILE names a file that holds SHARDCAST_TOKEN


class Settings(BaseSettings):
    """Base of a daemon's settings; frozen, complete and checked at birth.

    Environment names have the prefix SHARDCAST_ and a double underscore for each level (SHARDCAST_DATABASE__URL). A
    value may stand in a file named by the same name with the suffix _FILE. In shardcast.toml each daemon reads the
    table of its own name.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    @classmethod
    def from_env(cls, **flags: object) -> Self:
        """Reads the environment once; flags that are None count as not given. Raises BadConfiguration."""
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            raise BadConfiguration(faults="; ".join(map(_told, error.errors()))) from error
        except (OSError, ValueError) as error:
            raise BadConfiguration(faults=str(error)) from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls, env_settings), _NamedFiles(settings_cls), _Toml(settings_cls)


def _told(fault: ErrorDetails) -> str:
    place = ".".join(map(str, fault["loc"]))
    said = fault["msg"].removeprefix("Value error, ")
    return f"{place}: {said}" if place else said


class _Environment(PydanticBaseSettingsSource):
    """The environment, where a nested value may stand in a file: SHARDCAST_DATABASE__URL_FILE=/run/secrets/url."""

    def __init__(self, settings_cls: type[BaseSettings], plain: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._plain = plain

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self._plain.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        return {name: _read(value) if isinstance(value, dict) else value for name, value in self._plain().items()}


def _read(table: Mapping[str, Any]) -> dict[str, Any]:
    """A value that is given itself wins."""
    suffix = FILE_SUFFIX.lower()
    paths = {name.removesuffix(suffix): path for name, path in table.items() if name.endswith(suffix)}
    values = {name: value for name, value in table.items() if not name.endswith(suffix)}
    return {**{name: Path(path).read_text().strip() for name, path in paths.items()}, **values}


class _NamedFiles(PydanticBaseSettingsSource):
    """Values in files: SHARDCAST_X_FILE=/run/secrets/x; top-level fields only."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{PREFIX}{field_name.upper()}{FILE_SUFFIX}")
        return (Path(path).read_text().strip() if path else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class _Toml(TomlConfigSettingsSource):
    """The daemon's table in shardcast.toml (or the file that SHARDCAST_CONFIG names)."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        named = os.environ.get(f"{PREFIX}CONFIG")
        if named and not Path(named).is_file():  # one that nobody named need not be there
            raise FileNotFoundError(f"{PREFIX}CONFIG names {named}, which is no file")
        super().__init__(settings_cls, Path(named or "shardcast.toml"))

    def __call__(self) -> dict[str, Any]:
        table = self.settings_cls.__module__.split(".")[0]
        section = super().__call__().get(table, {})
        if not isinstance(section, dict):
            raise ValueError(f"{self.toml_file_path}: {table} is no table")
        return section
