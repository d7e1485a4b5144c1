"""`shardcast job`: definitions of what runs when."""

import json
import sys
import uuid
from difflib import unified_diff
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
import yaml

from admin.domain.errors import InvalidJob, InvalidTrigger
from admin.domain.form import definition_of, form_of
from protos.exits import Exit, fail
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
    parsed_params,
    path_to,
    show,
    wait_for_run,
)
from shardcast.job_files import JobLoader
from shardcast.rest import RestClient

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Jobs: what runs when, and on which executor group."
)

COLUMNS = ("name", "group", "handler", "trigger", "shards", "paused", "next_fire_at")
SET_BY_THE_ADMIN = ("paused", "version", "created_at", "updated_at", "next_fire_at")
Name = Annotated[str, typer.Argument(help="The job's name.")]


@app.command("list")
def list_jobs(
    server: ServerOption = DEFAULT_SERVER, token: TokenOption = None, output: OutputOption = Output.TABLE
) -> None:
    """List all jobs by name."""
    with connect(server, token) as api:
        body = api.get_all("/jobs", "jobs")
    show(body, output, COLUMNS, body["jobs"])


@app.command()
def get(
    name: Name, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None, output: OutputOption = Output.YAML
) -> None:
    """Show one job."""
    with connect(server, token) as api:
        show(api.get(path_to("jobs", name)), output, COLUMNS)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="YAML or JSON with a list of jobs; - is standard input.")],
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
) -> None:
    """Create or change jobs so that they are as in the file; others stay as they are."""
    wanted = _read_jobs(file)
    with connect(server, token) as api:
        known = {job["name"]: job for job in api.get_all("/jobs", "jobs")["jobs"]}
        for job in wanted:
            print(f"{job['name']}: {_apply(api, job, known.get(job['name']), dry_run)}")


@app.command()
def diff(
    file: Annotated[Path, typer.Argument(help="As for apply.")],
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
) -> None:
    """Show what apply would change; exit code 1 if that is anything."""
    wanted = _read_jobs(file)
    with connect(server, token) as api:
        known = {job["name"]: job for job in api.get_all("/jobs", "jobs")["jobs"]}
    lines = [line for job in wanted for line in _differences(known.get(job["name"]), job)]
    print("".join(lines), end="")
    if lines:
        raise SystemExit(int(Exit.FAILED))


@app.command()
def export(server: ServerOption = DEFAULT_SERVER, token: TokenOption = None) -> None:
    """Print all jobs as YAML that `job apply` takes."""
    with connect(server, token) as api:
        jobs = [_definition(job) for job in api.get_all("/jobs", "jobs")["jobs"]]
    print(yaml.safe_dump({"jobs": jobs}, sort_keys=False, allow_unicode=True), end="")


@app.command()
def trigger(
    name: Name,
    param: Annotated[list[str] | None, typer.Option("--param", metavar="K=V", help="Laid over the job's own.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key gives the same run.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the run has ended.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run a job now."""
    body = {"params": parsed_params(param)} if param else {}
    headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
    with connect(server, token) as api:
        run = api.post(f"{path_to('jobs', name)}/trigger", body, headers=headers)
        if wait:
            run = wait_for_run(api, run["id"], timeout)
    show(run, output, ("id", "job", "state", "cause", "shards", "started_at", "ended_at", "reason"))
    if wait:
        exit_as(run)


@app.command()
def pause(name: Name, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None) -> None:
    """Let the trigger of a job rest."""
    with connect(server, token) as api:
        api.post(f"{path_to('jobs', name)}/pause")
    print(f"{name} is paused.")


@app.command()
def resume(name: Name, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None) -> None:
    """Let a paused job fire again."""
    with connect(server, token) as api:
        api.post(f"{path_to('jobs', name)}/resume")
    print(f"{name} is active.")


@app.command()
def delete(
    name: Name, yes: YesOption = False, server: ServerOption = DEFAULT_SERVER, token: TokenOption = None
) -> None:
    """Delete a job; its runs stay in the history."""
    confirm(f"Delete job {name}?", yes)
    with connect(server, token) as api:
        api.delete(path_to("jobs", name))
    print(f"{name} is deleted.")


def _read_jobs(file: Path) -> list[dict[str, Any]]:
    try:
        document = yaml.load(_standard_input() if str(file) == "-" else file.read_text(), JobLoader)
        json.dumps(document, allow_nan=False)
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.", Exit.UNFIT_INPUT)
    except yaml.YAMLError as error:
        fail(f"{file} is neither YAML nor JSON: {error}.", Exit.UNFIT_INPUT)
    except (TypeError, ValueError) as error:
        fail(f"{file} holds a value that JSON does not have: {error}.", Exit.UNFIT_INPUT)
    except RecursionError:
        fail(f"{file} nests too deep to be read.", Exit.UNFIT_INPUT)
    jobs = document.get("jobs") if isinstance(document, dict) else None
    if not isinstance(jobs, list) or not all(isinstance(job, dict) and _is_named(job) for job in jobs):
        fail(f"{file} must hold a list `jobs`, each with a name.", Exit.UNFIT_INPUT)
    return jobs


def _standard_input() -> TextIO:
    """Raises OSError where it is closed."""
    if sys.stdin is None:
        raise OSError("it is closed")
    return sys.stdin


def _is_named(job: dict[str, Any]) -> bool:
    name = job.get("name")
    return bool(name) and isinstance(name, str)


def _apply(api: RestClient, job: dict[str, Any], known: dict[str, Any] | None, dry_run: bool) -> str:
    """Written only where it differs, and only over the version that was compared."""
    if known is None:
        return "would be created" if dry_run else _done(api.post("/jobs", job), "created")
    before, after = _compared(known, job)
    if before == after:
        return "unchanged"
    if dry_run:
        return "would be changed"
    return _done(api.put(path_to("jobs", job["name"]), job, headers={"If-Match": f'"{known["version"]}"'}), "changed")


def _differences(known: dict[str, Any] | None, wanted: dict[str, Any]) -> list[str]:
    """A unified diff of what the admin has and what apply would make of it."""
    before, after = _compared(known, wanted) if known else ({}, wanted)
    return list(unified_diff(_lines(before), _lines(after), f"admin {wanted['name']}", f"file {wanted['name']}"))


def _lines(job: dict[str, Any]) -> list[str]:
    text: str = yaml.safe_dump(job, allow_unicode=True) if job else ""
    return text.splitlines(keepends=True)


def _compared(known: dict[str, Any], wanted: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both as they are meant: an instant is the same in every zone, 90s are 1m30s, what is left out is the default.
    What this version cannot read is compared as it is written, field by field of the file.
    """
    try:
        return _meant(_definition(known)), _meant(wanted)
    except (InvalidJob, InvalidTrigger):
        return {field: known[field] for field in wanted if field in known}, wanted


def _meant(job: dict[str, Any]) -> dict[str, Any]:
    """Raises InvalidJob, InvalidTrigger."""
    return {field: value for field, value in form_of(definition_of(job)).items() if value is not None}


def _done(_: object, word: str) -> str:
    return word


def _definition(job: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in job.items() if field not in SET_BY_THE_ADMIN and value is not None}
