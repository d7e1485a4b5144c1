"""Starts the admin from a command line."""

import argparse
from collections.abc import Sequence

from admin.app import build
from admin.settings import AdminSettings
from protos.daemon import live
from protos.exits import one_sentence


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the admin until a signal ends it; a start that fails exits with one sentence."""
    parser = argparse.ArgumentParser(prog="shardcast admin", description="Decides when and where jobs run.")
    parser.add_argument("--data", metavar="DIR")
    parser.add_argument("--http-port", type=int, metavar="P")
    parser.add_argument("--grpc-port", type=int, metavar="P")
    flags = vars(parser.parse_args(argv))
    with one_sentence():
        live("admin", build(AdminSettings.from_env(**flags)), collects_seldom=True)


if __name__ == "__main__":
    main()
