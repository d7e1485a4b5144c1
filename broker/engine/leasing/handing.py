"""Fills a member's hands: looks through the queues of a topic for messages that it may have now."""

from collections.abc import Mapping, Sequence

from broker.delivery.dead_letters import Death
from broker.delivery.leases.handing import Asking, Entry, Handing, hand_out_again, hand_out_new
from broker.delivery.leases.settling import RAN_OUT
from broker.delivery.leases.state import NEVER_MS, Change, Leases, retired
from broker.engine.journal import Journal
from broker.engine.leasing.burying import CHUNK_BYTES, Letter
from broker.engine.leasing.commands import LeasedEntry, LeaseMessages
from broker.engine.leasing.table import LeaseTable
from broker.errors import BadRequest
from broker.log.record import ENTRY_BYTES, decode_lanes, tag_hash
from broker.model import LogId, QueueKey
from broker.queues.consume_queue import ConsumeQueue

_FILTERED = 4_096  # entries of a queue that one call looks through for its tags


class Hand:
    """What one call of a member takes; nothing is changed before `changes` are."""

    def __init__(self, journal: Journal, table: LeaseTable, command: LeaseMessages, now_ms: int) -> None:
        self.until_ms = now_ms + command.lease_ms
        self.taken: list[LeasedEntry] = []
        self.dead: list[Letter] = []
        self.changes: dict[QueueKey, Change] = {}
        self._queues = journal.queues
        self._known = table.of_group(command.group)
        self._gone = table.gone.get(command.topic.topic_id, ())
        self._command = command
        self._now_ms = now_ms
        self._tags = frozenset(map(tag_hash, command.tags))
        self._bytes = CHUNK_BYTES
        self._free = 0

    def fill(self, turn: int) -> None:
        """Takes from the queues in turn: what is due again first, new messages then."""
        topic, count = self._command.topic, len(self._command.ends)
        keys = [QueueKey(topic.topic_id, (turn + number) % count) for number in range(count)]
        leases = {key: self._known.get(key) or Leases(self._command.begins[key.queue]) for key in keys}
        due = {key: self._due(key, leases[key]) for key in keys}
        self._free = self._most(leases, due)
        for key in keys:
            self._take(key, leases[key], due[key])

    def _due(self, key: QueueKey, leases: Leases) -> Sequence[int]:
        lowest = self._queues.queue(key).lowest
        return [offset for offset in leases.due(self._now_ms) if offset >= lowest]

    def _most(self, leases: Mapping[QueueKey, Leases], due: Mapping[QueueKey, Sequence[int]]) -> int:
        """How many messages the group may have beside those that are leased now, were leases not run out."""
        expired = sum(bool(leases[key].held[offset].member) for key, offsets in due.items() for offset in offsets)
        held = sum(known.leased for known in self._known.values()) - expired
        return min(self._command.max_messages, self._command.policy.most_leased - held)

    def _take(self, key: QueueKey, leases: Leases, due: Sequence[int]) -> None:
        queue = self._queues.queue(key)
        start = retired(leases, queue.lowest)
        change = Change(start.next, start.done)
        if due and self._free > 0:
            again = hand_out_again(leases, self._asking(), [entry_at(queue, offset) for offset in due[: self._free]])
            self._add(key, leases, again)
            change = Change(start.next, [*start.done, *again.change.done], again.change.held)
        if self._free > 0:
            entries, end = self._entries(queue, start.next, self._command.ends[key.queue])
            new = hand_out_new(leases, self._asking(), entries, end)
            self._add(key, leases, new)
            change = Change(max(new.change.next, start.next), change.done, {**change.held, **new.change.held})
        is_news = key not in self._known  # where a group begins is written down before anything comes
        if is_news or change.next != leases.next or change.done or change.held:
            self.changes[key] = change

    def _asking(self) -> Asking:
        command = self._command
        return Asking(
            command.member_id,
            self._now_ms,
            self.until_ms,
            self._free,
            self._bytes,
            command.policy.attempts,
        )

    def _entries(self, queue: ConsumeQueue, begin: int, end: int) -> tuple[list[Entry], int]:
        """Messages that have one of the tags, and up to where (not including) was looked for them."""
        count = min(_FILTERED if self._tags else self._free, end - begin)
        if count <= 0:
            return [], begin
        found = queue.read(begin, count)
        read, tags, gone = enumerate(decode_lanes(found), begin), self._tags, self._gone
        entries = [
            Entry(offset, *fields) for offset, fields in read if (not tags or fields[2] in tags) and offset not in gone
        ]
        return entries, begin + len(found) // ENTRY_BYTES

    def _add(self, key: QueueKey, leases: Leases, handing: Handing) -> None:
        held = handing.change.held
        self.taken += [LeasedEntry(key.queue, entry, held[entry.offset].attempt) for entry in handing.taken]
        self.dead += [self._letter(key, entry, leases) for entry in handing.dead]
        self._free -= len(handing.taken)
        self._bytes -= handing.bytes
        if self._bytes <= 0:
            self._free = 0

    def _letter(self, key: QueueKey, entry: Entry, leases: Leases) -> Letter:
        command, held = self._command, leases.held[entry.offset]
        log_id = command.grave.log_id if command.grave else LogId("")
        error = held.error or RAN_OUT
        return Letter(entry, Death(log_id, command.topic.name, *key, entry.offset, held.failures, error, self._now_ms))

    def next_due_ms(self, known: Mapping[QueueKey, Leases]) -> int:
        """When to look again if nothing grows and nobody settles; `known` as it is behind the changes."""
        topic_id = self._command.topic.topic_id
        leases = [each for key, each in known.items() if key.topic_id == topic_id]
        if self._free > 0:
            return min((each.earliest_ms for each in leases), default=NEVER_MS)
        return min((each.next_expiry_ms() for each in known.values()), default=NEVER_MS)


def entry_at(queue: ConsumeQueue, offset: int) -> Entry:
    """One message of the queue. Raises BadRequest if the queue does not hold it."""
    data = queue.read(offset, 1) if queue.lowest <= offset < queue.end else b""
    if len(data) != ENTRY_BYTES:
        raise BadRequest(reason=f"there is no message at offset {offset}")
    return next(Entry(offset, *fields) for fields in decode_lanes(data))
