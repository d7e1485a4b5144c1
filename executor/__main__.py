"""The executor daemon's command: `MODULE:APP`, a way for every start to fail plainly."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from executor.app import Executor
from executor.daemon import build
from executor.errors import BadApp, ShadowedPackage, line_of
from executor.settings import ExecutorSettings
from protos.daemon import live
from protos.exits import one_sentence

OUR_PACKAGES = ("admin", "broker", "executor", "protos", "shardcast")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs an app until a signal ends it; a start that fails exits with one sentence."""
    parser = argparse.ArgumentParser("shardcast executor", description="Runs the handlers of an app.")
    parser.add_argument("app", metavar="MODULE:APP", help="where the Executor object is")
    parser.add_argument(
        "--probe-port", type=int, metavar="P", help="port of the probe, 0 for any free one (default: none)"
    )
    flags = vars(parser.parse_args(argv))
    target = flags.pop("app")
    with one_sentence():
        refuse_shadows(Path.cwd())
        settings = ExecutorSettings.from_env(**flags)
        live("executor", build(settings, load_app(target)))


def load_app(target: str) -> Executor:
    """Imports MODULE, found from the current directory on, and takes APP out of it. Raises BadApp."""
    module_name, separator, name = target.partition(":")
    if not (module_name and separator and name):
        raise BadApp(target=target, reason="give it as MODULE:APP, e.g. promotion:app")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise BadApp(target=target, reason=f"{module_name} cannot be imported: {line_of(error).rstrip('.')}") from error
    app: object = getattr(module, name, None)
    if app is None:
        raise BadApp(target=target, reason=f"{module_name} has no {name}")
    if not isinstance(app, Executor):
        raise BadApp(target=target, reason=f"{name} is a {type(app).__name__}, not an Executor")
    return app


def refuse_shadows(directory: Path) -> None:
    """A user's own package of one of our names would be imported instead of ours, or never. Raises ShadowedPackage."""
    ours = Path(__file__).resolve().parent.parent
    if directory.resolve() == ours:
        return
    for package in OUR_PACKAGES:
        for path in (directory / package / "__init__.py", directory / f"{package}.py"):
            if path.exists():
                raise ShadowedPackage(path=str(path), package=package)


if __name__ == "__main__":
    main()
