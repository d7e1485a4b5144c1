"""The command line: daemons, the demo, and a client of the admin's REST API."""

import sys
from typing import Annotated

import typer

from protos.exits import one_sentence
from shardcast.cli import cron, daemons, database, demo, fleet, jobs, runs, tokens, version
from shardcast.cli.messages import dead_letters, groups, topics

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A distributed job scheduler with a message broker inside.",
)
for room in (daemons, demo, version):
    room.register(app)
for name, group in (
    ("job", jobs.app),
    ("run", runs.app),
    ("topic", topics.app),
    ("group", groups.app),
    ("dead-letter", dead_letters.app),
    ("fleet", fleet.app),
    ("token", tokens.app),
    ("db", database.app),
    ("cron", cron.app),
):
    app.add_typer(group, name=name)


@app.callback()
def _options(verbose: Annotated[bool, typer.Option("--verbose", help="Show tracebacks.")] = False) -> None:
    """`main` looks for it itself: it holds for whatever goes wrong, the reading of options included."""


def main() -> None:
    """The entry point of `shardcast`: one sentence and an exit code for every error of ours."""
    with one_sentence(verbose="--verbose" in sys.argv):
        app()
