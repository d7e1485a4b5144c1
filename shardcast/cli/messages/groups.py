"""`shardcast group`: consumer groups, and how they are redelivered to."""

from typing import Annotated, Any

import typer

from protos.errors import InvalidArgument
from shardcast.cli.context import (
    DEFAULT_SERVER,
    Output,
    OutputOption,
    ServerOption,
    TokenOption,
    YesOption,
    cell,
    confirm,
    connect,
    show,
)
from shardcast.cli.messages.topics import MAX_RATE, QUEUE_LAG_COLUMNS, group_path

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Consumer groups, and how they are redelivered to.")

COLUMNS = ("name", "mode", "lag", "leased", "waiting", "dead_letters", "consumed_per_second", "attempts")

Name = Annotated[str, typer.Argument(help="The consumer group.")]


@app.command("list")
def list_groups(
    server: ServerOption = DEFAULT_SERVER, token: TokenOption = None, output: OutputOption = Output.TABLE
) -> None:
    """List all groups by name."""
    with connect(server, token) as api:
        body = api.get_all("/groups", "groups")
    show(body, output, COLUMNS, body["groups"])


@app.command()
def describe(
    name: Name, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show a group, its policy, its members and its queues."""
    with connect(server, token) as api:
        body = api.get(group_path(name))
    if output is not Output.TABLE:
        show(body, output, ())
        return
    for field, value in body.items():
        if not isinstance(value, list):
            print(f"{field}: {cell(value)}")
    for field, columns in (("members", ("id", "topics", "expires_at")), ("queues", QUEUE_LAG_COLUMNS)):
        if body[field]:
            print()
            show(body, output, columns, body[field])


@app.command()
def alter(
    name: Name,
    attempts: Annotated[int | None, typer.Option(min=1, max=1000, help="The first one included.")] = None,
    backoff: Annotated[
        str | None,
        typer.Option(metavar="WAITS", help="Between attempts: 1s,10s,1m (the last counts on), or 1s*2..5m."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, max=MAX_RATE, help="Messages read a second; 0: no limit.")
    ] = None,
    most_leased: Annotated[int | None, typer.Option(min=1, help="Messages that members may hold together.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change a group: only what is named. It is made if there is none."""
    change: dict[str, Any] = {"attempts": attempts, "most_leased": most_leased}
    change = {field: value for field, value in change.items() if value is not None}
    if backoff is not None:
        change["backoff"] = _backoff(backoff)
    if rate is not None:
        change["messages_per_second"] = rate or None
    if not change:
        raise InvalidArgument(reason="Say what to change; `shardcast group alter --help` lists it.")
    with connect(server, token) as api:
        show(api.patch(group_path(name), change), output, (*COLUMNS, "backoff", "messages_per_second"))


@app.command()
def delete(
    name: Name, yes: YesOption = False, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None
) -> None:
    """Forget a group and how far it has read."""
    confirm(f"Forget group {name} and how far it has read?", yes)
    with connect(server, token) as api:
        api.delete(group_path(name))
    print(f"{name} is forgotten.")


def _backoff(text: str) -> dict[str, Any]:
    """ "1s,10s" -> steps; "1s*2..5m" -> from 1 s on, each twice the one before, up to 5 min."""
    if "*" not in text:
        return {"steps": text.split(",")}
    initial, _, rest = text.partition("*")
    factor, _, longest = rest.partition("..")
    try:
        return {"initial": initial, "max": longest, "multiplier": float(factor)}
    except ValueError:
        raise InvalidArgument(reason=f"--backoff takes 1s,10s,1m or 1s*2..5m, not {text!r}.") from None
