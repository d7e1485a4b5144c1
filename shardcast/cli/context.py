"""What the commands that talk to an admin share: where it is, who asks, how answers are shown."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer
import yaml

from protos.errors import InvalidArgument
from protos.exits import Exit, fail
from shardcast.rest import DEFAULT_SERVER as DEFAULT_SERVER  # of all commands
from shardcast.rest import RestClient, token_from_file

POLL_SECONDS = 0.2
MAX_LINE = 1_000  # an id that is cut cannot be copied: long lines are the terminal's to wrap


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


ServerOption = Annotated[
    str, typer.Option("--server", envvar="SHARDCAST_SERVER", metavar="URL", help="The admin's HTTP address.")
]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="SHARDCAST_TOKEN", help="Also from SHARDCAST_TOKEN_FILE.")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="JSON is the body of the API.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def connect(server: str, token: str | None) -> RestClient:
    """A client of the admin; the token may stand in the file that SHARDCAST_TOKEN_FILE names."""
    return RestClient(server, token or token_from_file())


def show(body: Any, output: Output, columns: Sequence[str], rows: Sequence[Mapping[str, Any]] | None = None) -> None:
    """Prints the body of an answer; as a table it is `rows` (or the body alone) by the named columns."""
    if output is Output.JSON:
        print(json.dumps(body, ensure_ascii=False))
    elif output is Output.YAML:
        print(yaml.safe_dump(body, sort_keys=False, allow_unicode=True), end="")
    else:
        _print_table(columns, [body] if rows is None else rows)


def _print_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*(cell(row.get(column)) for column in columns))
    Console(width=MAX_LINE, markup=False, emoji=False).print(table)


def cell(value: object) -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    return harmless(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def harmless(text: str) -> str:
    """What would order a terminal about is shown as it is written in Python."""
    return "".join(map(_harmless, text))


def _harmless(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode()


def path_to(room: str, name: str) -> str:
    """Where the API has something, whatever its name is; bytes of the command line that are no text stay what they
    are.
    """
    return f"/{room}/{quote(name, safe='', errors='surrogateescape')}"


def confirm(question: str, yes: bool) -> None:
    """Exits with 1 if the answer is no. Raises InvalidArgument where nobody can be asked."""
    if yes:
        return
    try:
        if sys.stdin is None:
            raise typer.Abort
        typer.confirm(question, abort=True)
    except typer.Abort:
        if sys.stdin is not None and sys.stdin.isatty():
            raise
        raise InvalidArgument(reason="Nothing is done without a yes: give --yes where nobody can answer.") from None


def parsed_params(pairs: Sequence[str]) -> dict[str, Any]:
    """["k=1", "name=x"] -> {"k": 1, "name": "x"}: values are JSON where they can be read so, else text."""
    params: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not key or not sign:
            raise InvalidArgument(reason=f"--param takes K=V, not {pair!r}.")
        try:
            params[key] = json.loads(value)
        except (ValueError, RecursionError):
            params[key] = value
    return params


def wait_for_run(
    api: RestClient, run_id: str, timeout_seconds: float | None, clock: Callable[[], float] = time.monotonic
) -> dict[str, Any]:
    """The run once it has ended; exits with 75 when that takes too long."""
    began = clock()
    while True:
        run: dict[str, Any] = api.get(path_to("runs", run_id))
        if run["ended_at"] is not None:
            return run
        if timeout_seconds is not None and clock() - began >= timeout_seconds:
            fail(f"Run {run_id} is still {run['state']} after {timeout_seconds:g} s.", Exit.TEMPORARY)
        time.sleep(POLL_SECONDS)


def exit_as(run: Mapping[str, Any]) -> None:
    """Exit code 1 for a failed run; a cancelled or skipped one is said and fine."""
    if run["state"] == "failed":
        reason = run.get("reason") or "some of its shards failed"
        fail(f"Run {run['id']} failed: {reason}; `shardcast run shards {run['id']}` says why.", Exit.FAILED)
    if run["state"] in ("cancelled", "skipped"):
        reason = run.get("reason") or "its handler had nothing to do"
        print(f"Run {run['id']} was {run['state']}: {reason}.", file=sys.stderr)
