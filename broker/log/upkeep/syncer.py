"""Syncs a log that is not synced with every group, so that a power loss takes no more than a moment."""

from datetime import timedelta

from broker.log.commit_log import CommitLog
from broker.log.upkeep.background import Wait


class Syncer:
    """For the durability policy `interval`."""

    def __init__(self, log: CommitLog, every: timedelta) -> None:
        self._log = log
        self._every = every

    def run_once(self) -> None:
        """Makes durable what was written before this call. Raises OSError: the process must end."""
        self._log.sync()

    def run(self, wait: Wait) -> None:
        """Until it is time to end."""
        while not wait(self._every.total_seconds()):
            self.run_once()
