"""What a user's app declares, and how an executor that cannot start says so."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from executor.__main__ import load_app, main, refuse_shadows
from executor.app import Executor
from executor.errors import BadApp, BadHandler, BadParams, HandlerExists, NoContext, ShadowedPackage
from executor.link.convert import handlers_of
from executor.running.context import AsyncContext, Context, current_async_context, current_context
from executor.settings import ExecutorSettings
from protos.errors import BadConfiguration


class Model(BaseModel):
    number: int


@dataclass
class Data:
    number: int


def test_a_handler_stays_a_function_and_gets_a_name() -> None:
    app = Executor("group")

    @app.job
    def plain() -> int:
        return 1

    @app.job()
    async def other() -> int:
        return 2

    @app.job("named")
    def third(params: Model) -> int:
        return params.number

    assert (plain(), third(Model(number=3))) == (1, 3)
    names = list(app.registry.handlers)
    assert names[0].endswith("plain")
    assert names[1].endswith("other")
    assert names[2] == "named"
    assert [handler.is_async for handler in app.registry.handlers.values()] == [False, True, False]


def test_a_name_is_taken_once() -> None:
    app = Executor("group")
    app.job("push")(lambda: None)
    with pytest.raises(HandlerExists):
        app.job("push")(lambda: None)


@pytest.mark.parametrize("kind", [Model, Data])
def test_parameters_become_the_type_of_the_annotation(kind: type) -> None:
    app = Executor("group")

    def handler(wanted: kind, ctx: Context) -> None:  # type: ignore[valid-type]
        pass

    app.job("handler")(handler)
    described = app.registry.get("handler")
    assert (described.context, described.params) == ("ctx", "wanted")
    assert described.decode('{"number": 7}') == kind(number=7)
    with pytest.raises(BadParams, match="number"):
        described.decode('{"number": "x"}')


def test_parameters_without_annotation_are_plain_json() -> None:
    app = Executor("group")
    app.job("handler")(lambda params: params)
    assert app.registry.get("handler").decode('{"a": [1, null]}') == {"a": [1, None]}


def test_an_async_context_is_known_by_its_type() -> None:
    app = Executor("group")

    @app.job("handler")
    async def handler(where: AsyncContext) -> None:
        pass

    assert app.registry.get("handler").context == "where"


def test_a_function_that_asks_for_more_is_no_handler() -> None:
    def handler(context: Context, params: int, more: int) -> None:
        pass

    with pytest.raises(BadHandler, match="more"):
        Executor("group").job("handler")(handler)


async def coroutine() -> None: ...


def plain() -> None: ...


def local() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize(
    ("function", "manner", "sentence"),
    [
        (coroutine, {"isolation": "thread"}, "async function runs in the loop"),
        (coroutine, {"isolation": "process"}, "async function runs in the loop"),
        (plain, {"isolation": "async"}, "for async functions"),
        (plain, {"isolation": "fork"}, "async, thread or process"),
        (lambda: None, {"isolation": "process"}, "lambda"),
        (local(), {"isolation": "process"}, "inside of another function"),
        (plain, {"slots": 0}, "whole number from 1"),
        (plain, {"slots": 1.5}, "whole number from 1"),
        (plain, {"retry_on": ("x",)}, "types of exceptions"),
        (plain, {"give_up_on": KeyboardInterrupt}, "types of exceptions"),
        (plain, {"give_up_on": (OSError, ValueError), "retry_on": ValueError}, "ValueError cannot be both"),
    ],
)
def test_a_handler_that_cannot_be_run_as_it_asks_is_refused(
    function: Callable[..., object], manner: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadHandler, match=sentence):
        Executor("group").job("handler", **manner)(function)


def test_a_function_of_a_script_cannot_be_found_by_another_process() -> None:
    def script() -> None: ...

    script.__module__, script.__qualname__ = "__main__", "script"
    with pytest.raises(BadHandler, match="put the app into a module"):
        Executor("group").job(isolation="process")(script)


def test_where_a_handler_runs_follows_from_what_it_is() -> None:
    app = Executor("group")
    app.job("a")(coroutine)
    app.job("t")(plain)
    app.job("p", isolation="process", slots=2)(plain)
    assert [str(handler.isolation) for handler in app.registry.handlers.values()] == ["async", "thread", "process"]
    assert [handler.slots for handler in handlers_of(app.registry)] == [0, 0, 2], "the admin is told"


def test_a_listener_needs_a_topic() -> None:
    with pytest.raises(BadHandler):
        Executor("group").consumer(group="g")


def test_outside_of_an_attempt_there_is_no_context() -> None:
    for ask in (current_context, current_async_context):
        with pytest.raises(NoContext):
            ask()


def test_an_app_whose_module_leaves_is_told_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving_app.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadApp, match="SystemExit"):
        load_app("leaving_app:app")


def exit_code(argv: list[str]) -> object:
    with pytest.raises(SystemExit) as left:
        main(argv)
    return left.value.code


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("nothing", "MODULE:APP"),
        ("no_such_module:app", "cannot be imported"),
        ("executor.app:missing", "has no missing"),
        ("executor.app:Executor", "not an Executor"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_told_plainly(
    target: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadApp, match=sentence):
        load_app(target)
    assert exit_code([target]) == 78
    assert sentence in capsys.readouterr().err


def test_a_package_of_one_of_our_names_is_told_plainly(tmp_path: Path) -> None:
    refuse_shadows(tmp_path)
    (tmp_path / "broker").mkdir()
    refuse_shadows(tmp_path)  # a mere directory shadows nothing
    (tmp_path / "broker" / "__init__.py").touch()
    with pytest.raises(ShadowedPackage, match="broker"):
        refuse_shadows(tmp_path)


def test_settings_that_do_not_fit_are_told_plainly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHARDCAST_SLOTS", "many")
    assert exit_code(["executor.handlers:app"]) == 78
    assert "slots" in capsys.readouterr().err
    assert exit_code([]) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKEN", "tökn"),
        ("TOKEN", "one\ntwo"),
        ("TOKEN", "\udcff"),
        ("BROKER_TOKEN", "kéy"),
        ("NAME", "\udcff"),
        ("NAME", "a\tb"),
        ("DRAIN_SECONDS", "inf"),
        ("RELEASE_SECONDS", "1e400"),
        ("CONNECT_SECONDS", "nan"),
    ],
)
def test_settings_that_nobody_could_be_told_or_wait_for_are_faults(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"SHARDCAST_{name}", value)
    with pytest.raises(BadConfiguration, match=f"{name.lower()}: "):
        ExecutorSettings.from_env()
