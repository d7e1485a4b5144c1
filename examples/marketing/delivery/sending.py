"""Sends one promotion's letters of a batch: within the frequency cap, once if the settings say so."""

from collections import Counter
from collections.abc import Sequence
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
        """Those that may be sent. Each message asks before its first try alone."""
        pairs = list(zip(letters.indexes, letters.user_ids, strict=True))
        asking = [f"user:{user}" for index, user in pairs if not tries_of(self._messages[index])]
        window = timedelta(hours=cap.hours)
        allowed = Counter(self._desk.shop.limits.cap_all(asking, most=cap.most, window=window) if asking else ())
        kept, capped = Letters(letters.message), []
        for index, user in pairs:
            message, key = self._messages[index], f"user:{user}"
            if tries_of(message) or allowed[key]:
                allowed[key] -= 0 if tries_of(message) else 1
                kept.add(index, user)
            else:
                capped.append(message)
        if capped:
            self._ledger.capped(letters.message.promotion_id, capped)
        return kept

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
                mine = Letters(letters.message)
                for key, index, user in zip(keys, letters.indexes, letters.user_ids, strict=True):
                    if key in left:
                        left.remove(key)  # a key that comes twice is sent once
                        mine.add(index, user)
                    else:
                        (others if key in held else done).append(self._messages[index])
                self._send(mine)
        except ClaimHeld as error:
            self._ledger.deferred(others, self._now + (error.after or LEAST_DEFERRAL))
        if done:
            self._ledger.delivered(letters.message.promotion_id, done)

    def _send(self, letters: Letters) -> None:
        if not letters.indexes:
            return
        message = letters.message
        sent = [self._messages[index] for index in letters.indexes]
        notices = Notices(message, letters.user_ids, [each.message_id for each in sent])
        unsent = self._desk.providers[message.inform_type].send(notices)
        for index, outcome in unsent.items():
            if isinstance(outcome, Rejected):
                self._ledger.failed(message.promotion_id, sent[index], outcome.reason)
            else:
                self._ledger.tried(message.promotion_id, sent[index], outcome.reason, outcome.after)
        if unsent:
            sent = [each for index, each in enumerate(sent) if index not in unsent]
        self._ledger.delivered(message.promotion_id, sent)


def _once_key(promotion_id: int, user_id: int, message: ReceivedMessage) -> str:
    """A try that failed is another one's, and so is a resend."""
    return f"{promotion_id}:{user_id}:{message.properties.get(RESEND, '')}:{tries_of(message)}"
