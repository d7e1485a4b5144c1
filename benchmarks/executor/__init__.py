"""The executor: rows per second from a table to acknowledged messages, by each way of scanning, on real daemons."""

import argparse
from collections.abc import Iterator

from benchmarks.figures import Figure

DATABASES = ("sqlite", "postgresql", "mariadb")
STRATEGIES = ("ranges", "hash", "indexed")  # indexed: hash, found by the column of a bucket

NAME = "executor"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the table")
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--executors", type=int, nargs="+", default=(1, 2), help="numbers of them, a case each")
    parser.add_argument("--shards", type=int, default=8, help="for `indexed` a divisor of 1024")
    parser.add_argument("--batch", type=int, default=1_000, help="rows of a batch, which is one publish")
    parser.add_argument(
        "--memory-rows",
        type=int,
        nargs="+",
        default=(),
        help="sizes of more tables of the first database, each scanned by ranges by one executor",
    )


def run(options: argparse.Namespace) -> Iterator[Figure]:
    """The figures of one run."""
    from benchmarks.executor import cases  # executors import this package, and their memory is measured

    return cases.run(options)
