import asyncio
import random
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from protos.errors import InvalidArgument
from shardcast import supervisor
from shardcast.demo.audience import generated
from shardcast.demo.chaos import striking
from shardcast.demo.scenarios import ENTRY_POINTS, load
from shardcast.supervisor import Command, Daemon

READY = "import json; print(json.dumps({'ready': 'it'}), flush=True)"
ENDLESS = ["timeit", "-n", "1", "-s", READY, "import time; time.sleep(600)"]


def test_an_unknown_scenario_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(InvalidArgument, match=r"no scenario nothing; there is coupon, .*promotion"):
        load("nothing")


def test_a_scenario_whose_package_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = EntryPoint("gone", "no_such_package.scenarios:gone", ENTRY_POINTS)
    monkeypatch.setattr("shardcast.demo.scenarios.entry_points", lambda group: EntryPoints([gone]))
    with pytest.raises(InvalidArgument, match=r"gone is not installed whole: No module named 'no_such_package'\.$"):
        load("gone")


def test_the_kill_switch_kills_only_its_kinds_and_the_supervisor_starts_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MAX_QUICK_DEATHS", 1)

    async def strike() -> None:
        daemons = [Daemon(Command(kind, kind, lambda _: ENDLESS), tmp_path) for kind in ("executor", "consumer")]
        async with asyncio.TaskGroup() as group:
            for daemon in daemons:
                group.create_task(daemon.watch())
                await daemon.ready.wait()
            before = [daemon.pid for daemon in daemons]
            daemons[0].ready.clear()
            async with striking(daemons, random.Random(7), (0.01, 0.02)) as kills:
                while not kills:
                    await asyncio.sleep(0)
            await daemons[0].ready.wait()  # one quick death would be too many, was it not the switch's doing
            assert set(kills) == {"executor"}
            assert daemons[0].pid != before[0]
            assert daemons[1].pid == before[1]
            for daemon in daemons:
                await daemon.stop()

    asyncio.run(strike())


@pytest.mark.parametrize("name", ["a?b", "a%20b"])
def test_users_lie_in_the_demos_directory_whatever_its_name_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert generated(tmp_path / name / "audience.db", 3).size == 3
    assert (tmp_path / name / "audience.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
