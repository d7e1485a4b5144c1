"""`shardcast db`: the admin's schema."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The admin's database schema.")
Url = Annotated[
    str, typer.Option("--url", envvar="SHARDCAST_DATABASE__URL", help="SQLAlchemy URL of the admin's database.")
]


def _url(given: str) -> str:
    from admin.settings import AdminSettings

    return given or AdminSettings.from_env().url


@app.command()
def upgrade(url: Url = "") -> None:
    """Bring the schema to the newest revision."""
    from admin.store import revision, schema

    schema.upgrade(_url(url))
    print(f"The schema is at {revision.NEWEST}.")


@app.command()
def current(url: Url = "") -> None:
    """Print the revision of the schema."""
    from admin.store import revision

    print(revision.current(_url(url)) or "none")


@app.command()
def check(url: Url = "") -> None:
    """Fail unless the schema is the one that this version needs."""
    from admin.store import revision

    revision.check(_url(url))
    print("The schema is current.")
