"""`shardcast version`."""

from importlib.metadata import version

import typer


def register(app: typer.Typer) -> None:
    app.command("version")(show)


def show() -> None:
    """Print the version."""
    print(version("shardcast"))
