"""Logs of runs: collected from links, written in batches, read and followed, forgotten."""
