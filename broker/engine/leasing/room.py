"""The engine's room of leases: hands messages out to members of groups, and does what they say of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import assert_never, cast

from broker.delivery.dead_letters import Death, Gone
from broker.delivery.leases.changes import to_stored
from broker.delivery.leases.settling import Dead, Settlement, given_back, settle, spent
from broker.delivery.leases.state import Change, Leases
from broker.engine.journal import Journal
from broker.engine.leasing.burying import Letter, bury, chunks
from broker.engine.leasing.commands import (
    BurySpent,
    DropLeases,
    DropTopicLeases,
    GetLeases,
    GiveBackLeases,
    Grave,
    GroupLeasesCommand,
    Leased,
    LeaseMessages,
    LeaseReport,
    LeasesSettled,
    LeasingAnswer,
    LeasingCommand,
    Moved,
    PurgeDeadLetters,
    RaiseDeadLetters,
    ResetLeases,
    SettleLeases,
    Standing,
)
from broker.engine.leasing.handing import Hand, entry_at
from broker.engine.leasing.table import Deed, LeaseTable, TableSnapshot, decode, encode
from broker.errors import BadRequest, LeaseExpired, UnknownTopic
from broker.log.frame import Frame, Kind
from broker.log.payload import decode_change_head
from broker.model import GroupName, GroupPolicy, MemberId, QueueKey, QueueRange, TopicId
from broker.queues.encoding import EncodedRun


class Leasing:
    """For the writer's thread, but for `gone`, `floors` and `spent`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._table = LeaseTable()
        self._turns = Counter[tuple[GroupName, TopicId]]()  # which queue each begins with

    def do(self, command: LeasingCommand, now_ms: int) -> LeasingAnswer:
        """Raises BadRequest, TooLarge, UnknownTopic."""
        match command:
            case LeaseMessages():
                return self._lease(command, now_ms)
            case SettleLeases():
                return self._settle(command, now_ms)
            case BurySpent():
                return self._bury_spent(command, now_ms)
            case RaiseDeadLetters():
                return self._raise(command, now_ms)
            case PurgeDeadLetters():
                return self._purge(command, now_ms)
            case _:
                return self.do_for_group(command, now_ms)

    def do_for_group(self, command: GroupLeasesCommand, now_ms: int) -> LeaseReport:
        """Where the group stands then."""
        match command:
            case GetLeases(group):
                pass
            case ResetLeases(group):
                self._reset(command, now_ms)
            case GiveBackLeases(group, member_id):
                self._give_back(group, member_id, now_ms)
            case DropLeases(group):
                self._turns = Counter({who: turn for who, turn in self._turns.items() if who[0] != group})
                self._append({"do": "drop", "group": group}, now_ms)
            case DropTopicLeases(topic_id):
                self._turns = Counter({who: turn for who, turn in self._turns.items() if who[1] != topic_id})
                self._append({"do": "drop topic", "topic": topic_id}, now_ms)
                return LeaseReport({})
            case _:
                assert_never(command)
        return self._report(group, now_ms)

    def replay(self, frame: Frame) -> None:
        """Does again what a stored frame of this room did."""
        change, runs = decode_change_head(frame.payload)
        self._journal.index_again(frame, runs)
        self._table.apply(decode(change))

    def snapshot(self) -> object:
        return self._table.snapshot()

    def restore(self, snapshot: object) -> None:
        """What a snapshot holds; None: nothing."""
        if snapshot is not None:
            self._table.restore(cast(TableSnapshot, snapshot))

    def gone(self, topic_id: TopicId) -> Gone:
        """Which messages of a dead letter topic are not there any more; for any thread."""
        return self._table.gone.get(topic_id, Gone())

    def floors(self, group: GroupName) -> Mapping[QueueKey, int]:
        """Up to where everything is done, of every queue that the group has begun: the rest is still needed.

        For any thread.
        """
        return {key: leases.floor for key, leases in [*self._table.of_group(group).items()]}

    def spent(self, group: GroupName, attempts: int, now_ms: int) -> set[TopicId]:
        """Topics of which messages may be due that have no attempt left; for any thread."""
        known = [*self._table.of_group(group).items()]
        return {key.topic_id for key, leases in known if leases.may_have_spent(attempts, now_ms)}

    def _lease(self, command: LeaseMessages, now_ms: int) -> Leased:
        if self._journal.topics.by_id(command.topic.topic_id) is None:
            raise UnknownTopic(topic=command.topic.name)
        who = command.group, command.topic.topic_id
        self._turns[who] += 1
        hand = Hand(self._journal, self._table, command, now_ms)
        hand.fill(self._turns[who])
        if hand.dead and self._known(command.grave) is None:
            return Leased((), 0, now_ms, lacks_grave=True)
        if hand.changes:
            runs = bury(self._journal.log, command.grave, hand.dead, now_ms) if command.grave else ()
            self._change(command.group, command.topic.topic_id, hand.changes, now_ms, runs)
        is_behind = bool(hand.changes) and not hand.taken
        due_ms = hand.next_due_ms(self._table.of_group(command.group))
        return Leased(hand.taken, hand.until_ms, due_ms, is_behind=is_behind)

    def _settle(self, command: SettleLeases, now_ms: int) -> LeasesSettled:
        by_queue = defaultdict[int, list[Settlement]](list)
        for settlement in command.settlements:
            by_queue[settlement.queue].append(settlement)
        known = self._table.of_group(command.group)
        refused, letters, changes = list[LeaseExpired](), list[Letter](), dict[QueueKey, Change]()
        for queue, settlements in by_queue.items():
            key = QueueKey(command.topic_id, queue)
            settled = settle(known.get(key, _NOTHING), command.member_id, settlements, command.policy, now_ms)
            refused += [_refusal(command, queue, *handing) for handing in settled.refused]
            lowest = self._journal.queues.queue(key).lowest if settled.dead else 0  # there may be no such queue
            letters += [self._letter(command, key, dead, now_ms) for dead in settled.dead if dead.offset >= lowest]
            done = [*settled.change.done, *(dead.offset for dead in settled.dead if dead.offset < lowest)]
            if done or settled.change.held:
                changes[key] = Change(settled.change.next, done, settled.change.held)
        has_freed = bool(letters) or _frees(known, changes, command.policy)
        self._give_up(command, letters, now_ms)
        if changes:
            self._change(command.group, command.topic_id, changes, now_ms)
        total = len(letters) + sum(len(change.done) for change in changes.values())
        return LeasesSettled(refused, total, has_freed)

    def _letter(self, command: SettleLeases | BurySpent, key: QueueKey, dead: Dead, now_ms: int) -> Letter:
        grave = self._known(command.grave)
        if grave is None:
            raise BadRequest(reason=f"group {command.group} has no dead letters yet: say it again")
        entry = entry_at(self._journal.queues.queue(key), dead.offset)
        of = (grave.log_id, command.topic, *key)
        return Letter(entry, Death(*of, dead.offset, dead.attempts, dead.error, now_ms))

    def _give_up(self, command: SettleLeases | BurySpent, letters: Iterable[Letter], now_ms: int) -> None:
        """Each message is done and has its copy by the same frame."""
        known = self._table.of_group(command.group)
        for chunk in chunks(letters):
            done = defaultdict[QueueKey, list[int]](list)
            for letter in chunk:
                done[QueueKey(command.topic_id, letter.death.queue)].append(letter.death.offset)
            changes = {key: Change(known[key].next, offsets) for key, offsets in done.items()}
            runs = bury(self._journal.log, command.grave, chunk, now_ms) if command.grave else ()
            self._change(command.group, command.topic_id, changes, now_ms, runs)

    def _known(self, grave: Grave | None) -> Grave | None:
        """None: there is none, or it was deleted meanwhile, and what is given up would be lost."""
        return grave if grave and self._journal.topics.by_id(grave.topic_id) else None

    def _bury_spent(self, command: BurySpent, now_ms: int) -> Moved:
        if self._known(command.grave) is None:
            return Moved(0)
        letters = chain.from_iterable(
            self._spent(command, key, known, now_ms)
            for key, known in self._table.of_group(command.group).items()
            if key.topic_id == command.topic_id
        )
        chunk = next(chunks(letters), ())
        self._give_up(command, chunk, now_ms)
        return Moved(len(chunk))

    def _spent(self, command: BurySpent, key: QueueKey, known: Leases, now_ms: int) -> Iterator[Letter]:
        lowest = self._journal.queues.queue(key).lowest
        for dead in spent(known, command.policy.attempts, now_ms):
            if dead.offset >= lowest:
                yield self._letter(command, key, dead, now_ms)

    def _raise(self, command: RaiseDeadLetters, now_ms: int) -> Moved:
        self._check_there(command.dead_letters, command.offsets)
        for topic_id in {run.key.topic_id for run in command.runs}:
            if self._journal.topics.by_id(topic_id) is None:  # deleted meanwhile
                raise UnknownTopic(topic=self._journal.topics.name_of(topic_id))
        self._remove(command.dead_letters, command.offsets, now_ms, runs=command.runs)
        return Moved(len(command.offsets))

    def _purge(self, command: PurgeDeadLetters, now_ms: int) -> Moved:
        topic_id = command.dead_letters
        if command.offsets:
            self._check_there(topic_id, command.offsets)
            self._remove(topic_id, command.offsets, now_ms)
            return Moved(len(command.offsets))
        queue = self._journal.queues.queue(QueueKey(topic_id, 0))
        purged = self.gone(topic_id).left_of(QueueRange(queue.lowest, queue.end))
        self._remove(topic_id, (), now_ms, before=queue.end)
        return Moved(purged)

    def _check_there(self, topic_id: TopicId, offsets: Sequence[int]) -> None:
        queue, gone = self._journal.queues.queue(QueueKey(topic_id, 0)), self.gone(topic_id)
        missing = [offset for offset in offsets if offset in gone or not queue.lowest <= offset < queue.end]
        if missing or len({*offsets}) < len(offsets):
            raise BadRequest(reason=f"there is no dead letter at offset {missing[0] if missing else 'twice'}")

    def _reset(self, command: ResetLeases, now_ms: int) -> None:
        queues = [(queue, to_stored(Change(offset))) for queue, offset in command.offsets.items()]
        deed: Deed = {
            "do": "change",
            "group": command.group,
            "topic": command.topic_id,
            "queues": queues,
            "resets": True,
        }
        self._append(deed, now_ms)

    def _give_back(self, group: GroupName, member_id: MemberId, now_ms: int) -> None:
        changes = defaultdict[TopicId, dict[QueueKey, Change]](dict)
        for key, known in self._table.of_group(group).items():
            if (change := given_back(known, member_id, now_ms)).held:
                changes[key.topic_id][key] = change
        for topic_id, queues in changes.items():
            self._change(group, topic_id, queues, now_ms)

    def _report(self, group: GroupName, now_ms: int) -> LeaseReport:
        return LeaseReport({key: _standing(known, now_ms) for key, known in self._table.of_group(group).items()})

    def _change(
        self,
        group: GroupName,
        topic_id: TopicId,
        changes: Mapping[QueueKey, Change],
        now_ms: int,
        runs: Sequence[EncodedRun] = (),
    ) -> None:
        queues = [(key.queue, to_stored(change)) for key, change in changes.items()]
        deed: Deed = {"do": "change", "group": group, "topic": topic_id, "queues": queues, "resets": False}
        self._journal.append_change(Kind.LEASES, encode(deed), runs, now_ms)
        for key, change in changes.items():
            self._table.change(group, key, change)

    def _remove(
        self,
        topic_id: TopicId,
        offsets: Sequence[int],
        now_ms: int,
        *,
        before: int = 0,
        runs: Sequence[EncodedRun] = (),
    ) -> None:
        self._append({"do": "remove", "topic": topic_id, "before": before, "offsets": [*offsets]}, now_ms, runs)

    def _append(self, deed: Deed, now_ms: int, runs: Sequence[EncodedRun] = ()) -> None:
        self._journal.append_change(Kind.LEASES, encode(deed), runs, now_ms)
        self._table.apply(deed)


_NOTHING = Leases(0)


def _standing(leases: Leases, now_ms: int) -> Standing:
    ends = leases.lease_ends(now_ms)
    return Standing(leases.floor, leases.next, len(ends), len(leases.held) - len(ends), max(ends, default=0))


def _refusal(command: SettleLeases, queue: int, offset: int, attempt: int) -> LeaseExpired:
    return LeaseExpired(topic=command.topic, queue=queue, offset=offset, attempt=attempt, member_id=command.member_id)


def _frees(known: Mapping[QueueKey, Leases], changes: Mapping[QueueKey, Change], policy: GroupPolicy) -> bool:
    """Whether somebody who found nothing may find something by these changes, or at another time."""
    if sum(leases.leased for leases in known.values()) >= policy.most_leased:
        return True
    return any(
        known[key].holds_back or any(not held.member for held in change.held.values())
        for key, change in changes.items()
    )
