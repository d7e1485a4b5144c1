"""The engine's room of messages that a member by offset gives up: copied and committed by one frame, exactly once."""

from collections.abc import Sequence

from broker.delivery.dead_letters import Death
from broker.engine.commands import BuryMessages, CommitOffsets
from broker.engine.grouping import Grouping
from broker.engine.journal import Journal
from broker.engine.leasing.burying import Letter, bury, chunks
from broker.engine.leasing.handing import entry_at
from broker.errors import BadRequest
from broker.groups.answers import OffsetsNow
from broker.log.frame import Frame
from broker.log.payload import decode_change_head
from broker.model import OffsetCommit, QueueKey


class Burying:
    """For the writer's thread. Its state is that of the groups."""

    def __init__(self, journal: Journal, grouping: Grouping) -> None:
        self._journal = journal
        self._grouping = grouping

    def do(self, command: BuryMessages, now_ms: int) -> OffsetsNow:
        """Raises BadRequest, NotOwner, UnknownGroup: then nothing is buried."""
        if self._journal.topics.by_id(command.grave.topic_id) is None:  # deleted meanwhile
            raise BadRequest(reason=f"group {command.group} has no dead letters yet: say it again")
        now = self._grouping.commit(_committing(command, 0), now_ms)
        letters = self._letters(command, now.commits[0].offset, now_ms)
        for chunk in chunks(letters):
            runs = bury(self._journal.log, command.grave, chunk, now_ms)
            now = self._grouping.commit(_committing(command, chunk[-1].entry.offset + 1), now_ms, runs)
        return now

    def _letters(self, command: BuryMessages, committed: int, now_ms: int) -> Sequence[Letter]:
        """Of what is not committed yet, by offset."""
        at = command.claim.at
        queue = self._journal.queues.queue(QueueKey(command.topic_id, at.queue))
        of = (command.grave.log_id, at.topic, command.topic_id, at.queue)
        how = (command.attempts, command.error, now_ms)
        offsets = sorted({offset for offset in command.offsets if offset >= committed})
        return [Letter(entry_at(queue, offset), Death(*of, offset, *how)) for offset in offsets]

    def replay(self, frame: Frame) -> None:
        """Does again what a stored frame of this room did."""
        change, runs = decode_change_head(frame.payload)
        self._journal.index_again(frame, runs)
        self._grouping.apply(change)


def _committing(command: BuryMessages, offset: int) -> CommitOffsets:
    return CommitOffsets(command.group, command.member_id, [OffsetCommit(command.claim, offset)])
