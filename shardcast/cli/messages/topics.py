"""`shardcast topic`: the broker's topics, what is in them, and how far groups have read."""

from collections.abc import Sequence
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
    path_to,
    show,
)

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Topics: what is in them, and how far groups have read."
)

COLUMNS = ("name", "depth", "read_queues", "write_queues", "delayed", "published_per_second", "retention")
READER_COLUMNS = ("group", "mode", "members", "lag", "oldest_unread_at")
HOLDER_COLUMNS = ("kind", "name", "topic", "queue")
QUEUE_COLUMNS = ("queue", "lowest_offset", "end_offset")
QUEUE_LAG_COLUMNS = ("topic", "queue", "committed_offset", "end_offset", "lag", "oldest_unread_at", "owner")
LAG_COLUMNS = ("group", *QUEUE_LAG_COLUMNS)
MESSAGE_COLUMNS = ("queue", "offset", "published_at", "key", "tag", "body")
MAX_RATE = 1e9  # messages a second; keeps infinity out
MAX_BODY = 120  # characters of a body in a table; -o json has all of it

Name = Annotated[str, typer.Argument(help="The topic's name.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Messages at most.")]
Writable = Annotated[bool | None, typer.Option("--writable/--read-only", help="Whether it takes messages.")]
Readable = Annotated[bool | None, typer.Option("--readable/--unreadable", help="Whether groups may read it.")]
Retention = Annotated[
    str | None, typer.Option(metavar="DURATION", help='How long messages stay, e.g. 3d; "default": the broker\'s.')
]
RetentionBytes = Annotated[int | None, typer.Option(min=0, help="How many bytes stay; 0: no limit.")]
Rate = Annotated[
    float | None, typer.Option("--rate", min=0, max=MAX_RATE, help="Messages published a second; 0: no limit.")
]


@app.command("list")
def list_topics(
    server: ServerOption = DEFAULT_SERVER, token: TokenOption = None, output: OutputOption = Output.TABLE
) -> None:
    """List all topics by name."""
    with connect(server, token) as api:
        body = api.get_all("/topics", "topics")
    show(body, output, COLUMNS, body["topics"])


@app.command()
def create(
    name: Name,
    queues: Annotated[int | None, typer.Option(min=1, max=1024, help="Default: 4.")] = None,
    writable: Writable = None,
    readable: Readable = None,
    retention: Retention = None,
    retention_bytes: RetentionBytes = None,
    rate: Rate = None,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a topic; the same one again changes nothing."""
    policy = _policy(writable, readable, retention, retention_bytes, rate)
    form = {"name": name, "queues": queues, **policy}
    with connect(server, token) as api:
        body = api.post("/topics", {field: value for field, value in form.items() if value is not None})
    show(body, output, COLUMNS)


@app.command()
def describe(
    name: Annotated[str | None, typer.Argument(help="The topic's name; without it: the broker as a whole.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a topic, its queues and who reads it; or the broker."""
    with connect(server, token) as api:
        body = api.get(topic_path(name) if name else "/broker")
    if output is not Output.TABLE:
        show(body, output, ())
        return
    for field, value in body.items():
        if not isinstance(value, list):
            print(f"{field}: {cell(value)}")
    for field, columns in (("queues", QUEUE_COLUMNS), ("groups", READER_COLUMNS), ("oldest_held_by", HOLDER_COLUMNS)):
        if body.get(field):
            print()
            show(body, output, columns, body[field])


@app.command()
def alter(
    name: Name,
    queues: Annotated[
        int | None, typer.Option(min=1, max=1024, help="A multiple of what it has: keys stay in order.")
    ] = None,
    write_queues: Annotated[int | None, typer.Option(min=1, max=1024, help="To shrink: first these,")] = None,
    read_queues: Annotated[int | None, typer.Option(min=1, max=1024, help="then these, once all is read.")] = None,
    writable: Writable = None,
    readable: Readable = None,
    retention: Retention = None,
    retention_bytes: RetentionBytes = None,
    rate: Rate = None,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change a topic: only what is named."""
    change = _policy(writable, readable, retention, retention_bytes, rate)
    given = {"write_queues": write_queues or queues, "read_queues": read_queues or queues}
    change |= {field: value for field, value in given.items() if value is not None}
    if not change:
        raise InvalidArgument(reason="Say what to change; `shardcast topic alter --help` lists it.")
    with connect(server, token) as api:
        show(api.patch(topic_path(name), change), output, COLUMNS)


@app.command()
def delete(
    name: Name, yes: YesOption = False, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None
) -> None:
    """Delete a topic with all its messages."""
    confirm(f"Delete topic {name} with all its messages?", yes)
    with connect(server, token) as api:
        api.delete(topic_path(name))
    print(f"{name} is deleted.")


@app.command()
def peek(
    name: Name,
    queue: Annotated[int | None, typer.Option(min=0, help="Of this queue only.")] = None,
    offset: Annotated[int | None, typer.Option(min=0, help="From here on in --queue; default: the latest.")] = None,
    limit: Limit = 20,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Look at the latest messages, or from an offset on; no group moves."""
    with connect(server, token) as api:
        body = api.get(f"{topic_path(name)}/messages", queue=queue, offset=offset, limit=limit)
    show_messages(body, output)


@app.command()
def find(
    name: Name,
    key: Annotated[str | None, typer.Option(help="Messages with this key, the latest first.")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Stored then or later: 2026-12-01T09:00:00+08:00.")
    ] = None,
    limit: Limit = 20,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Find messages by key or by time; no group moves."""
    if (key is None) == (at is None):
        raise InvalidArgument(reason="Give --key or --at.")
    with connect(server, token) as api:
        body = api.get(f"{topic_path(name)}/messages", key=key, at=at, limit=limit)
    show_messages(body, output)


@app.command()
def lag(
    name: Annotated[str | None, typer.Argument(help="Of this topic only.")] = None,
    group: Annotated[str | None, typer.Option(help="Of this group only.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how far groups have read each queue."""
    with connect(server, token) as api:
        if name is not None:
            api.get(topic_path(name))  # a name that is mistyped is refused, and not a topic that nobody reads
        body = (
            api.get_all("/groups", "groups", topic=name) if group is None else {"groups": [api.get(group_path(group))]}
        )
    queues = [
        {"group": each["name"], **queue}
        for each in body["groups"]
        for queue in each["queues"]
        if name in (None, queue["topic"])
    ]
    show(body, output, LAG_COLUMNS, queues)


@app.command()
def reset(
    name: Name,
    group: Annotated[str, typer.Option(help="The group whose offsets move.")],
    to: Annotated[
        str, typer.Option(metavar="WHERE", help="earliest, latest, an instant, or an offset per queue: 7,0,3,9.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also while members are active: they lose their queues.")
    ] = False,
    yes: YesOption = False,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Move a group on a topic, after a preview.

    Refused if the group has moved since the preview, and while members are active unless forced.
    """
    order = {"topic": name, "to": _place(to), "force": force}
    path = f"{group_path(group)}/reset"
    with connect(server, token) as api:
        body = api.post(path, {**order, "preview": True})
        if not dry_run:
            if not yes:
                _show_reset(body, Output.TABLE)
            confirm(f"Move {group} on {name} like this?", yes)
            body = api.post(path, {**order, "expected": body["before"]})
    _show_reset(body, output)


def topic_path(name: str) -> str:
    return path_to("topics", name)


def group_path(name: str) -> str:
    return path_to("groups", name)


def show_messages(body: Any, output: Output, columns: Sequence[str] = MESSAGE_COLUMNS, field: str = "messages") -> None:
    """Bodies are cut in a table: one line a message."""
    rows = [{**message, "body": _line(message["body"])} for message in body[field]]
    show(body, output, columns, rows)


def _line(body: str) -> str:
    line = body[: MAX_BODY + 1].replace("\n", "\\n").replace("\r", "\\r")
    return line if len(body) <= MAX_BODY else f"{line[:MAX_BODY]}…"


def _policy(
    writable: bool | None, readable: bool | None, retention: str | None, retention_bytes: int | None, rate: float | None
) -> dict[str, Any]:
    """What was given; null in the API says that there is no limit of its own."""
    given: dict[str, Any] = {"writable": writable, "readable": readable}
    policy = {field: value for field, value in given.items() if value is not None}
    if retention is not None:
        policy["retention"] = None if retention == "default" else retention
    if retention_bytes is not None:
        policy["retention_bytes"] = retention_bytes or None
    if rate is not None:
        policy["messages_per_second"] = rate or None
    return policy


def _place(to: str) -> str | list[int]:
    offsets = to.split(",")
    return [int(offset) for offset in offsets] if all(offset.isdecimal() for offset in offsets) else to


def _show_reset(body: Any, output: Output) -> None:
    pairs = zip(body["before"], body["after"], strict=True)
    rows = [
        {"queue": queue, "before": before, "after": after, "moves": after - before}
        for queue, (before, after) in enumerate(pairs)
    ]
    show(body, output, ("queue", "before", "after", "moves"), rows)
