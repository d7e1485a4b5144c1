"""Each benchmark runs with tiny counts and prints all its cases; how fast is no matter of a test."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

BROKER = (
    "publish batch 1000",
    "publish batch 1000 encoded",
    "publish batch 100",
    "publish single 256",
    "publish single 256 encoded",
    "fetch",
    "latency p50",
    "latency p99",
    "fetch behind",
    "publish while behind",
    "memory",
    "start-up",
)
MAIN_JOB = ("publish durable", "deliver", "ids scanned")
SCHEDULER = (
    "fires sqlite",
    "lateness p50",
    "lateness p99",
    *(f"trigger latency {edge} p{percent}" for edge in ("grpc", "rest") for percent in (50, 99)),
    "trigger calls grpc",
    "trigger calls rest",
    "burst 30",
    "hung executor p50",
    "hung executor p99",
    "restart ready",
    "restart first fire",
    "history bytes sqlite",
    "registered 50",
    "registered 50 memory",
)
WAYS = ("ranges", "hash", "buckets")
EXECUTOR = ("rows ranges sqlite", "rows hash sqlite", "rows indexed sqlite", "3000 ranges")
MINIATURE = (
    *("--rates", "10", "--late-rates", "20", "--seconds", "1", "--warm-up", "1", "--calls", "3"),
    *("--burst", "30", "--history", "100", "--registered", "50"),
)
SECONDS = 100.0


def figures(*arguments: str, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """What a benchmark prints where there is no peer but those that are installed."""
    environment = {name: value for name, value in os.environ.items() if name != "ROCKETMQ_TOOL"}
    command = [sys.executable, "-m", "benchmarks", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.proof
def test_the_broker_is_measured_in_every_case_and_a_missing_peer_is_skipped_with_its_reason() -> None:
    printed = {figure["case"]: figure for figure in figures("broker", "--messages", "2000", "--behind", "4000")}
    assert tuple(sorted(printed)) == tuple(sorted(BROKER))
    assert all(figure["value"] > 0 for figure in printed.values())
    assert "ROCKETMQ_TOOL" in printed["fetch"]["settings"]["peer Apache RocketMQ"]


def test_the_main_job_is_measured_in_every_case() -> None:
    printed = {figure["case"]: figure["value"] for figure in figures("main_job", "--users", "2000")}
    assert set(MAIN_JOB) <= set(printed)
    assert all(value > 0 for value in printed.values())


@pytest.mark.proof
@pytest.mark.timeout(2 * SECONDS)
def test_the_scheduler_is_measured_in_every_case_and_nothing_is_lost() -> None:
    """The cases on PostgreSQL say on standard error why they are skipped where they are."""
    printed = {figure["case"]: figure for figure in figures("scheduler", *MINIATURE, seconds=1.8 * SECONDS)}
    assert set(SCHEDULER) <= set(printed)
    assert set(printed) - set(SCHEDULER) <= {"fires postgresql", "history bytes postgresql"}
    fields = {"benchmark", "case", "value", "unit", "floor", "peer", "settings"}
    assert all(fields <= set(figure) for figure in printed.values())
    assert (printed["burst 30"]["settings"]["lost"], printed["burst 30"]["settings"]["doubled"]) == (0, 0)
    restart = printed["restart ready"]["settings"]
    assert (restart["missing"], restart["doubled"], restart["accepted but not succeeded"]) == (0, 0, 0)


@pytest.mark.proof
@pytest.mark.timeout(2 * SECONDS)
def test_the_executor_is_measured_by_each_strategy_and_reads_every_row_once() -> None:
    """A run that is not exact ends the benchmark, also one of the bare readers'."""
    how = ("--databases", "sqlite", "--rows", "4000", "--executors", "1", "--shards", "4", "--memory-rows", "3000")
    printed = {figure["case"]: figure for figure in figures("executor", *how, seconds=1.8 * SECONDS)}
    assert set(printed) == {*EXECUTOR, "peak memory executor 3000"}
    assert all(figure["value"] > 0 for figure in printed.values())
    assert all(printed[case]["floor"] > 0 for case in EXECUTOR)
    assert printed["rows hash sqlite"]["peer"] > 0


@pytest.mark.proof
@pytest.mark.timeout(2 * SECONDS)
def test_the_marketing_system_is_measured_each_way_and_calls_every_user_once() -> None:
    """A run that is not exact ends the benchmark."""
    how = ("--databases", "sqlite", "--users", "3000", "--saves", "3", "--once", "none", "sqlite")
    printed = {
        figure["case"]: figure for figure in figures("marketing", *how, "--once-users", "500", seconds=1.8 * SECONDS)
    }
    wanted = {f"3000 {way} sqlite{what}" for way in WAYS for what in ("", " seconds", " delivered")}
    wanted |= {"save p50 sqlite", "save p99 sqlite", "deliver once none", "deliver once sqlite"}
    assert wanted == {case for case in printed if "peak memory" not in case}
    assert all(figure["value"] > 0 for figure in printed.values())
    assert all(printed[f"3000 {way} sqlite"]["floor"] > 0 for way in WAYS)
    assert printed["save p99 sqlite"]["peer"] > 0


def test_limits_are_measured_in_every_case_and_on_every_store_that_is_installed() -> None:
    printed = {
        figure["case"]: figure for figure in figures("limits", "--keys", "200", "--batch", "100", "--calls", "3")
    }
    stores = {case.rpartition(" ")[2] for case in printed}
    assert {"sqlite"} <= stores <= {"sqlite", "postgresql", "redis"}
    calls = [f"{verb}{size}" for verb in ("once", "take", "cap") for size in ("", "_all 100")]
    assert set(printed) == {f"{call} {store}" for call in calls for store in stores}
    assert all(figure["value"] > 0 and figure["floor"] > 0 for figure in printed.values())


def test_triggers_are_measured_for_every_expression_and_zone() -> None:
    printed = {figure["case"]: figure["value"] for figure in figures("triggers", "--fires", "20")}
    assert len(printed) == 27
    assert all(value > 0 for value in printed.values())
