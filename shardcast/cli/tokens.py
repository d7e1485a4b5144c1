"""`shardcast token`: who may call the admin."""

import sys
from typing import Annotated

import typer

from shardcast.cli.context import DEFAULT_SERVER, ServerOption, TokenOption, connect, path_to

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Tokens for people, programs and executor groups.")


@app.command()
def create(
    group: Annotated[str | None, typer.Option(help="For executors of this group; without it: an admin token.")] = None,
    name: Annotated[str, typer.Option(help="Tells people what the token is for.")] = "command line",
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
) -> None:
    """Make a token and print it; it is shown this once. Its id, to revoke it, goes to standard error."""
    with connect(server, token) as api:
        made = api.post("/tokens", {"name": name, "group": group})
    print(f"Token {made['id']} is made; `shardcast token revoke {made['id']}` takes it back.", file=sys.stderr)
    print(made["token"])


@app.command()
def revoke(token_id: str, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None) -> None:
    """Take a token back."""
    with connect(server, token) as api:
        api.delete(path_to("tokens", token_id))
    print(f"Token {token_id} is revoked.")
