"""`python -m shardcast` is the command line."""

import sys
from pathlib import Path

OURS = Path(__file__).resolve().parents[1]

if sys.path[0] == str(Path.cwd()) and Path.cwd().resolve() != OURS:
    del sys.path[0]  # put there by `-m`: a user's own `admin` or `broker` would be imported in place of ours

from shardcast.cli import main  # noqa: E402

main()
