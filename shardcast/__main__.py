"""`python -m shardcast` is the command line."""

from shardcast.cli import main

main()
