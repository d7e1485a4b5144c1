"""The broker: how fast it publishes and fetches and what it needs, beside the bare disk and its peers."""

from benchmarks.broker.run import NAME, add_options, run

__all__ = ["NAME", "add_options", "run"]
