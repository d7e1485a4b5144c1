"""`shardcast broker`: the daemon with its few flags; everything else comes from the environment."""

import argparse
import resource
from collections.abc import Sequence
from pathlib import Path

from broker.daemon import build
from broker.settings import BrokerSettings
from protos.daemon import live
from protos.exits import one_sentence


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the broker until a signal ends it; a start that fails exits with one sentence."""
    parser = argparse.ArgumentParser("shardcast broker", description="The message broker of Shardcast.")
    parser.add_argument("--data", type=Path, metavar="DIR", help="data directory (default: shardcast-data/broker)")
    parser.add_argument("--port", type=int, metavar="P", help="port of gRPC, 0 for any free one (default: 8081)")
    parser.add_argument(
        "--insecure", action="store_const", const=True, help="listen beyond loopback although there are no access keys"
    )
    flags = vars(parser.parse_args(argv))
    _open_as_many_files_as_allowed()
    with one_sentence():
        live("broker", build(BrokerSettings.from_env(**flags)))


def _open_as_many_files_as_allowed() -> None:
    """Each queue has a file open, and 1,024 files, the usual limit, are fewer than one large topic needs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
