"""The pytest plugin in a project of somebody else's."""

import subprocess
import sys
from pathlib import Path

import pytest

import shardcast.testing

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]

TESTS = """
from shardcast import Context, Executor, Message

app = Executor("shop")


@app.job("greet")
def greet(context: Context, params: dict[str, str]) -> str:
    context.log.info("greeting")
    with context.publisher("greetings") as publisher:
        publisher.publish([Message(params["name"].encode())])
    return "hello " + params["name"]


def test_the_handler_alone(shardcast_run):
    assert shardcast_run(greet, {"name": "Ann"}).result == "hello Ann"


def test_the_handler_on_a_server(shardcast_server):
    shardcast_server.start_executor(app)
    shardcast_server.job("greeting", handler="greet", params={"name": "Bob"})
    assert shardcast_server.wait(shardcast_server.trigger("greeting")).results == ["hello Bob"]
    assert [message.body for message in shardcast_server.messages("greetings")] == [b"Bob"]


def test_each_test_has_a_server_of_its_own(shardcast_server):
    assert shardcast_server.runs() == []
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # that of this very source, and no other plugin
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def test_its_fixtures_run_handlers_alone_and_on_a_server(project: pytest.Pytester) -> None:
    project.makepyfile(TESTS)
    result = project.runpytest_subprocess("-p", "shardcast.testing.plugin", timeout=100)
    result.assert_outcomes(passed=3)


def test_who_does_not_use_it_loads_nothing_for_it(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import sys

        def test_what_is_loaded():
            assert "shardcast.testing.plugin" in sys.modules
            heavy = {"grpc", "pydantic", "sqlalchemy", "yaml", "anyio", "executor", "admin", "broker"}
            assert not heavy & set(sys.modules)
        """
    )
    project.runpytest_subprocess("-p", "shardcast.testing.plugin", timeout=60).assert_outcomes(passed=1)


def test_it_is_declared_to_pytest() -> None:
    assert "pytest11 =\n    shardcast = shardcast.testing.plugin\n" in (ROOT / "setup.cfg").read_text()


@pytest.mark.parametrize("name", shardcast.testing.__all__)
def test_every_name_for_tests_can_be_imported(name: str) -> None:
    assert getattr(shardcast.testing, name).__name__ == name


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        _ = shardcast.testing.Server  # type: ignore[attr-defined]


def test_the_class_of_the_server_is_no_class_of_tests(project: pytest.Pytester) -> None:
    project.makepyfile("from shardcast.testing import TestServer\n\n\ndef test_nothing():\n    assert TestServer\n")
    project.runpytest_subprocess("-p", "shardcast.testing.plugin", timeout=60).assert_outcomes(passed=1)


def test_it_needs_no_pytest_to_be_imported() -> None:
    code = "import sys; sys.modules['pytest'] = None; from shardcast.testing import TestServer, run_local"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
