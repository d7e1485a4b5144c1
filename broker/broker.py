"""The broker: everything that can be asked of it, by kind."""

from broker.face.consuming.dead_letters import DeadLetters
from broker.face.consuming.groups import Groups
from broker.face.consuming.leasing import Leasing
from broker.face.delays import Delays
from broker.face.finding import Finding
from broker.face.parts import Parts
from broker.face.publishing import Publishing
from broker.face.reading import Reading
from broker.face.topics import Topics
from broker.face.transactions import Transactions
from broker.face.upkeep.burying import Burier
from broker.face.upkeep.describing import Describing
from broker.face.upkeep.measuring import Measuring
from broker.face.upkeep.retention import Retainer


class Broker:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts, retainer: Retainer) -> None:
        self.log_id = parts.log_id
        self.stopping = parts.stopping
        self.awake = parts.awake
        self.groups = Groups(parts)
        self.topics = Topics(parts)
        self.delays = Delays(parts)
        self.transactions = Transactions(parts)
        self.publishing = Publishing(parts, self.delays.deliverer)
        self.reading = Reading(parts)
        self.leasing = Leasing(parts)
        self.burier = Burier(parts)
        self.dead_letters = DeadLetters(parts)
        self.finding = Finding(parts)
        self.retainer = retainer
        self.describing = Describing(parts, retainer)
        self.measuring = Measuring(parts, self.describing, self.groups)
        self._waiters = parts.waiters

    async def look_again(self) -> None:
        """The clock was set: what is due by now is moved, and who waits is served. Raises BrokerStopping, DiskFull."""
        while (await self.delays.deliverer.run_once()).count:
            pass
        self.delays.deliverer.wake()
        self._waiters.wake_all()

    def drain(self) -> None:
        """Long polls end with nothing, and nothing new is taken."""
        self.stopping.set()
        self._waiters.wake_all()
        self.delays.deliverer.wake()
        self.transactions.close()
