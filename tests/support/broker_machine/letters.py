"""Rules of the machine: dead letters come with their origin, and are sent again or purged once."""

from collections.abc import Mapping

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from broker.errors import BadRequest, UnknownTopic
from broker.face.consuming.dead_letters import WantedResend
from broker.model import Attributes, GroupName, TopicName
from tests.support.broker_machine.base import READERS, WORKERS
from tests.support.broker_machine.publishing import Publishing
from tests.support.broker_model import Group, Letter, Place, Sent, Topic

GROUPS = st.sampled_from([READERS, WORKERS])
_NAMES = ("topic", "queue", "offset", "attempts")


class Letters(Publishing):
    """What a group gave up is in its dead letters, once, until somebody takes it out."""

    @property
    def readers(self) -> Group:
        return self.groups[READERS]

    @property
    def workers(self) -> Group:
        return self.groups[WORKERS]

    def take_letters(self, name: str, must: Mapping[Place, int], may: Mapping[Place, int]) -> list[Place]:
        """Takes over the new dead letters: all of the first, none but these and the second; with their attempts."""
        own, group = f"%DLQ%{name}", self.groups[name]
        if not self._has_letters(name):
            assert not must
            return []
        topic, places = self.model.topics.setdefault(own, Topic(1)), list[Place]()
        fetched = self.ask(self.fetch((own, 0), len(topic.queues[0])))
        for number, body in enumerate(fetched.bodies):
            place, attempts = _origin(fetched.attributes[number])
            stored = self.model.at(place)
            assert (stored.sent.body, attempts) == (body, {**may, **must}[place])
            places.append(place)
            group.letters.append(Letter(place, stored, attempts))
            sent = Sent(own, body, stored.sent.key, stored.sent.ordered)
            self.model.store((own, 0), sent, self.now_ms)
        assert len({*places}) == len(places)
        assert must.keys() <= {*places}
        return places

    def _has_letters(self, name: str) -> bool:
        """Whether the group's topic of dead letters exists, though it may be empty."""
        try:
            self.broker.topics.get(TopicName(f"%DLQ%{name}"))
        except UnknownTopic:
            return False
        return True

    @rule(name=GROUPS, chosen=st.sets(st.integers(0, 10), max_size=4), most=st.integers(1, 5))
    def resend(self, name: str, chosen: set[int], most: int) -> None:
        """These, or, if none is chosen, the first so many that are there."""
        group = self.groups[name]
        there = [offset for offset in range(len(group.letters)) if offset not in group.gone]
        wanted = WantedResend(GroupName(name), sorted(chosen), 0, 0, max(most, len(chosen)), 0.0)
        if self._has_letters(name) and not chosen <= {*there}:
            with pytest.raises(BadRequest):
                self.ask(self.broker.dead_letters.resend(wanted))
            return
        taken = (sorted(chosen) or there[:most]) if there else []
        assert self.ask(self.broker.dead_letters.resend(wanted)).count == len(taken)
        again = [group.letters[offset] for offset in taken]
        sent = [
            Sent(each.place[0], each.stored.sent.body, each.stored.sent.key, each.stored.sent.ordered) for each in again
        ]
        self.model.take_tails(self.ask(self.tails()), sent, self.now_ms)
        group.gone |= {*taken}

    @rule(name=GROUPS, chosen=st.sets(st.integers(0, 10), max_size=3))
    def purge(self, name: str, chosen: set[int]) -> None:
        group = self.groups[name]
        there = {offset for offset in range(len(group.letters)) if offset not in group.gone}
        purging = self.broker.dead_letters.purge(GroupName(name), sorted(chosen))
        if self._has_letters(name) and not chosen <= there:
            with pytest.raises(BadRequest):
                self.ask(purging)
            return
        taken = (chosen or there) if there else set()
        assert self.ask(purging) == len(taken)
        group.gone |= taken


def _origin(attributes: Attributes) -> tuple[Place, int]:
    topic, queue, offset, attempts = (attributes.properties[f"dead-letter-{name}"] for name in _NAMES)
    return (topic, int(queue), int(offset)), int(attempts)
