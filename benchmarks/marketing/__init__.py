"""The marketing system: ten million users to as many durable push messages and recorded calls, on real daemons."""

import argparse
from collections.abc import Iterator

from benchmarks.figures import Figure

DATABASES = ("sqlite", "postgresql")
WAYS = ("ranges", "hash", "buckets")
DEDUPES = ("none", "sqlite", "redis")

NAME = "marketing"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--users", type=int, default=10_000_000)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS, help="to send; what is sent is then delivered")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--executors", type=int, default=2)
    parser.add_argument("--consumers", type=int, default=2)
    parser.add_argument("--once", nargs="*", choices=DEDUPES, default=DEDUPES, help="how deliveries are claimed")
    parser.add_argument("--once-users", type=int, default=200_000, help="users of each case of --once")
    parser.add_argument("--saves", type=int, default=300, help="calls of POST /promotions for each size; 0: none")
    parser.add_argument("--chaos", action="store_true", help="kill executors, broker and admin every few seconds")


def run(options: argparse.Namespace) -> Iterator[Figure]:
    """The figures of one run."""
    from benchmarks.marketing import cases  # it brings the whole system along

    return cases.run(options)
