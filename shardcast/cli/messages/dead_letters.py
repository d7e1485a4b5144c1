"""`shardcast dead-letter`: messages that a consumer group gave up."""

import sys
from collections.abc import Mapping, Sequence
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
    confirm,
    connect,
)
from shardcast.cli.messages.topics import MAX_RATE, Limit, group_path, show_messages
from shardcast.rest import RestClient

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Dead letters: messages that a group gave up.")

COLUMNS = (
    "offset",
    "dead_at",
    "original_topic",
    "original_queue",
    "original_offset",
    "key",
    "attempts",
    "error",
    "body",
)

Group = Annotated[str, typer.Argument(help="The consumer group.")]
Offsets = Annotated[
    list[int] | None, typer.Option("--offset", min=0, help="This dead letter, as `list` numbers it; may be repeated.")
]
All = Annotated[bool, typer.Option("--all", help="All that are there now.")]


@app.command("list")
def list_dead_letters(
    group: Group,
    offset: Annotated[int | None, typer.Option(min=0, help="From here on; default: the oldest.")] = None,
    limit: Limit = 20,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List dead letters with where they come from and the last error."""
    with connect(server, token) as api:
        body = api.get(_path(group), offset=offset, limit=limit)
    show_messages(body, output, COLUMNS, "dead_letters")


@app.command()
def resend(
    group: Group,
    offset: Offsets = None,
    every: All = False,
    rate: Annotated[
        float, typer.Option(min=0, max=MAX_RATE, help="Messages a second at most; 0: as fast as it goes.")
    ] = 0,
    yes: YesOption = False,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
) -> None:
    """Publish dead letters to their own topic again, and drop them here."""
    _check_chosen(offset, every)
    with connect(server, token) as api:
        page = api.get(_path(group), limit=1)
        confirm(f"Resend {_counted(offset)} of {group}?", yes)
        resent = _resend(api, group, offset or (), page, rate) if page["dead_letters"] else 0
    print(f"{resent} resent.")


@app.command()
def purge(
    group: Group,
    offset: Offsets = None,
    every: All = False,
    yes: YesOption = False,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
) -> None:
    """Drop dead letters for good."""
    _check_chosen(offset, every)
    confirm(f"Drop {_counted(offset)} of {group} for good?", yes)
    with connect(server, token) as api:
        purged = api.post(f"{_path(group)}/purge", {"offsets": offset or None})["purged"]
    print(f"{purged} dropped.")


def _resend(api: RestClient, group: str, offsets: Sequence[int], page: Mapping[str, Any], rate: float) -> int:
    """Call by call, up to the end as it was at the start: what dies again meanwhile stays."""
    resent, first, left = 0, page["lowest_offset"], sorted(offsets)
    while True:
        places = {"offsets": left} if offsets else {"first_offset": first, "before_offset": page["end_offset"]}
        answer = api.post(f"{_path(group)}/resend", {**places, "messages_per_second": rate})
        resent, first = resent + int(answer["resent"]), answer["next_offset"]
        left = [offset for offset in left if offset >= first]
        if not left if offsets else first >= page["end_offset"]:
            return resent
        if sys.stderr.isatty():
            print(f"{resent} resent ...", file=sys.stderr)


def _check_chosen(offsets: list[int] | None, every: bool) -> None:
    if bool(offsets) == every:
        raise InvalidArgument(reason="Name dead letters with --offset, or take --all.")


def _counted(offsets: list[int] | None) -> str:
    return f"{len(offsets)} dead letters" if offsets else "all dead letters"


def _path(group: str) -> str:
    return f"{group_path(group)}/dead-letters"
