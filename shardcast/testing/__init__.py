"""Helpers for users' tests."""

from executor.testing import LocalRun, run_local

__all__ = ["LocalRun", "run_local"]
