"""Sends one promotion's letters of a batch: within the frequency cap, once if the settings say so."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from examples.marketing.delivery.decisions import LEAST_DEFERRAL
from examples.marketing.delivery.desk import Desk
from examples.marketing.delivery.ledger import Ledger, tries_of
from examples.marketing.delivery.providers.port import Notices, Rejected
from examples.marketing.delivery.reading import Letters
from examples.marketing.messages import RESEND
from examples.marketing.promotions.model import FrequencyCap
from shardcast import ClaimHeld, ReceivedMessage

ONCE_WINDOW = timedelta(days=7)

Messages = Sequence[ReceivedMessage]


class Sender:
    """For one batch; `messages` are all of it."""

    def __init__(self, desk: Desk, messages: Messages, ledger: Ledger, now: datetime) -> None:
        self._desk = desk
        self._messages = messages
        self._ledger = ledger
        self._now = now

    def send(self, letters: Letters) -> None:
        if self._desk.shop.settings.once:
            self._send_once(letters)
        else:
            self._send(letters)

    def within(self, cap: FrequencyCap, letters: Letters) -> Letters:
        """Those that may be sent. Each message asks before its first try alone, and what it was allowed is remembered:
        it may come again behind a crash. Raises ClaimHeld while somebody else is asking for one of them."""
        messages, promotion_id = [self._messages[index] for index in letters.indexes], letters.message.promotion_id
        keys = [
            "" if tries_of(message) else f"cap:{promotion_id}:{user}:{_resend(message)}"
            for user, message in zip(letters.user_ids, messages, strict=True)
        ]
        asking = {key: f"user:{user}" for key, user in zip(keys, letters.user_ids, strict=True) if key}
        refused = self._refused(cap, asking) if asking else ()
        kept, capped = Letters(letters.message), []
        for key, index, user in zip(keys, letters.indexes, letters.user_ids, strict=True):
            if key in refused:
                capped.append(self._messages[index])
            else:
                kept.add(index, user)
        if capped:
            self._ledger.capped(letters.message.promotion_id, capped)
        return kept

    def _refused(self, cap: FrequencyCap, asking: Mapping[str, str]) -> Collection[str]:
        """Of keys of messages, each with its user's, those that are beyond the cap."""
        limits, window = self._desk.shop.limits, timedelta(hours=cap.hours)
        with limits.once_all(list(asking), window=window) as ours:
            users = [asking[key] for key in ours]
            allowed = Counter(limits.cap_all(users, most=cap.most, window=window) if users else ())
            refused = set()
            for key in ours:
                if allowed[asking[key]] <= 0:
                    refused.add(key)
                allowed[asking[key]] -= 1
            ours.give_back(*refused)
        return refused

    def _send_once(self, letters: Letters) -> None:
        """What was done under the same key before counts as delivered; what somebody else is at work on comes again."""
        keys = [
            _once_key(letters.message.promotion_id, user, self._messages[index])
            for index, user in zip(letters.indexes, letters.user_ids, strict=True)
        ]
        others: list[ReceivedMessage] = []
        done: list[ReceivedMessage] = []
        try:
            with self._desk.shop.limits.once_all(keys, window=ONCE_WINDOW) as ours:
                left, held = set(ours), set(ours.held)
                mine, mine_by = Letters(letters.message), list[str]()
                for key, index, user in zip(keys, letters.indexes, letters.user_ids, strict=True):
                    if key in left:
                        left.remove(key)  # a key that comes twice is sent once
                        mine.add(index, user)
                        mine_by.append(key)
                    else:
                        (others if key in held else done).append(self._messages[index])
                ours.give_back(*(mine_by[index] for index in self._send(mine)))
        except ClaimHeld as error:
            self._ledger.deferred(others, self._now + (error.after or LEAST_DEFERRAL))
        if done:
            self._ledger.delivered(letters.message.promotion_id, done)

    def _send(self, letters: Letters) -> Collection[int]:
        """Which of them did not go."""
        if not letters.indexes:
            return ()
        message = letters.message
        sent = [self._messages[index] for index in letters.indexes]
        notices = Notices(message, letters.user_ids, [each.message_id for each in sent])
        unsent = self._desk.providers[message.inform_type].send(notices)
        for index, outcome in unsent.items():
            if isinstance(outcome, Rejected):
                self._ledger.failed(message.promotion_id, sent[index], outcome.reason)
            elif outcome.was_asked:
                self._ledger.tried(message.promotion_id, sent[index], outcome.reason, outcome.after)
            else:
                self._ledger.deferred([sent[index]], self._now + max(outcome.after, LEAST_DEFERRAL))
        if unsent:
            sent = [each for index, each in enumerate(sent) if index not in unsent]
        self._ledger.delivered(message.promotion_id, sent)
        return unsent.keys()


def _once_key(promotion_id: int, user_id: int, message: ReceivedMessage) -> str:
    """A try that failed is another one's, and so is a resend."""
    return f"{promotion_id}:{user_id}:{_resend(message)}:{tries_of(message)}"


def _resend(message: ReceivedMessage) -> str:
    return message.properties.get(RESEND, "")
