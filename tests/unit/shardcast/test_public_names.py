"""The SDK's names: all there, and not imported before they are used."""

import subprocess
import sys

import pytest

import shardcast


@pytest.mark.parametrize("name", shardcast.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(getattr(shardcast, name), "__name__", name) == name


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Job'"):
        _ = shardcast.Job  # type: ignore[attr-defined]


def test_the_package_alone_loads_neither_grpc_nor_sqlalchemy() -> None:
    code = "import shardcast, shardcast.cli, sys; sys.exit(bool({'grpc', 'sqlalchemy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
