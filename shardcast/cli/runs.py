"""`shardcast run`: occurrences of jobs and their shards."""

from typing import Annotated

import typer

from shardcast.cli.context import (
    DEFAULT_SERVER,
    Output,
    OutputOption,
    ServerOption,
    TokenOption,
    YesOption,
    confirm,
    connect,
    exit_as,
    path_to,
    show,
    wait_for_run,
)
from shardcast.cli.logs import log_pages, show_log_page, whole_log

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Runs: occurrences of jobs, and where each shard stands."
)

COLUMNS = ("id", "job", "state", "cause", "shards", "fire_time", "started_at", "ended_at", "reason")
SHARD_COLUMNS = ("index", "state", "attempt", "term", "holder", "rows", "published", "error_message")
Id = Annotated[str, typer.Argument(metavar="ID", help="The run's id.")]


@app.command("list")
def list_runs(
    job: Annotated[str | None, typer.Option(help="Of this job only.")] = None,
    state: Annotated[
        str | None, typer.Option(help="waiting, running, succeeded, failed, cancelled or skipped.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List runs, the newest first."""
    with connect(server, token) as api:
        body = api.get("/runs", job=job, state=state, page_size=limit)
    show(body, output, COLUMNS, body["runs"])


@app.command()
def get(
    run_id: Id, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show one run."""
    with connect(server, token) as api:
        show(api.get(path_to("runs", run_id)), output, COLUMNS)


@app.command()
def shards(
    run_id: Id, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show the shards of a run."""
    with connect(server, token) as api:
        body = api.get(f"{path_to('runs', run_id)}/shards")
    show(body, output, SHARD_COLUMNS, body["shards"])


@app.command()
def logs(
    run_id: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the run has ended.")] = False,
    shard: Annotated[int | None, typer.Option(min=0, help="Of this shard only.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what the handlers of a run logged: time, level, shard/attempt, text."""
    with connect(server, token) as api:
        if follow or output is Output.TABLE:
            for page in log_pages(api, run_id, shard=shard, follow=follow):
                show_log_page(page, output)
        else:
            show(whole_log(api, run_id, shard=shard), output, ())


@app.command()
def cancel(
    run_id: Id, yes: YesOption = False, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None
) -> None:
    """Stop a run: what waits never starts, what runs is told to stop."""
    confirm(f"Cancel run {run_id}?", yes)
    with connect(server, token) as api:
        run = api.post(f"{path_to('runs', run_id)}/cancel")
    print(f"Run {run_id} is {run['state'] if run['ended_at'] else 'stopping'}.")


@app.command()
def retry(run_id: Id, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None) -> None:
    """Let the failed and lost shards of a run go on behind their cursors."""
    with connect(server, token) as api:
        run = api.post(f"{path_to('runs', run_id)}/retry")
    print(f"Run {run['id']} is {run['state']}.")


@app.command()
def rerun(run_id: Id, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None) -> None:
    """Start a new run with the same parameters, from the start."""
    with connect(server, token) as api:
        run = api.post(f"{path_to('runs', run_id)}/rerun")
    print(run["id"])


@app.command()
def wait(
    run_id: Id,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Wait until a run has ended; exit code 1 if it failed."""
    with connect(server, token) as api:
        run = wait_for_run(api, run_id, timeout)
    show(run, output, COLUMNS)
    exit_as(run)
