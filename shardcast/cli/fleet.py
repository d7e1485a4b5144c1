"""`shardcast fleet`: the executors that are connected."""

import typer

from shardcast.cli.context import DEFAULT_SERVER, Output, OutputOption, ServerOption, TokenOption, connect, show

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The executors that are connected.")


@app.command("list")
def list_executors(
    server: ServerOption = DEFAULT_SERVER, token: TokenOption = None, output: OutputOption = Output.TABLE
) -> None:
    """List the executors."""
    with connect(server, token) as api:
        body = api.get("/fleet")
    show(body, output, ("name", "group", "slots", "used", "draining", "handlers", "id"), body["executors"])
