"""`python -m benchmarks [NAME] [--json] [options]`: one benchmark, or all."""

import argparse

from benchmarks import broker, executor, limits, main_job, marketing, scheduler, triggers
from benchmarks.figures import as_json, as_table

ALL = {each.NAME: each for each in (main_job, broker, scheduler, executor, marketing, triggers, limits)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    names = parser.add_subparsers(dest="name")
    for name, benchmark in ALL.items():
        named = names.add_parser(name, help=benchmark.__doc__)
        named.add_argument("--json", action="store_true", help="a JSON line per figure")
        benchmark.add_options(named)
    given = parser.parse_args()
    chosen = [given] if given.name else [parser.parse_args([name]) for name in ALL]
    for options in chosen:
        figures = list(ALL[options.name].run(options))
        print(as_json(figures) if options.json else as_table(figures), flush=True)


if __name__ == "__main__":
    main()
