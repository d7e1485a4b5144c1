"""`shardcast cron next`."""

from datetime import datetime

import pytest
from typer.testing import CliRunner

from shardcast.cli.cron import app


def test_fire_times_are_printed_in_the_zone():
    result = CliRunner().invoke(
        app, ["next", "0 30 9 LW * ?", "-n", "3", "--tz", "Asia/Shanghai", "--repeated", "twice"]
    )
    fires = [datetime.fromisoformat(line) for line in result.stdout.splitlines()]
    assert [fire.strftime("%H:%M%z") for fire in fires] == ["09:30+0800"] * 3
    assert fires == sorted(set(fires))


def test_an_expression_that_ends_says_so():
    never = CliRunner().invoke(app, ["next", "0 0 9 31 2 ?"])
    assert (never.exit_code, never.stdout, never.stderr) == (0, "", "It never fires again.\n")
    ending = CliRunner().invoke(app, ["next", "0 0 9 1 1 ? 2099-2100"])
    assert (len(ending.stdout.splitlines()), ending.stderr) == (2, "It never fires behind that.\n")


@pytest.mark.parametrize("option", [("--skipped", "never"), ("--repeated", "thrice"), ("--dialect", "spring")])
def test_what_is_no_choice_is_refused_by_its_name(option):
    result = CliRunner().invoke(app, ["next", "0 0 9 * * ?", *option])
    assert option[1] in str(result.exception)
