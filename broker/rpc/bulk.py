"""The bulk API over gRPC: all calls of the broker's service."""

from broker.broker import Broker
from broker.rpc.describing import DescribingCalls
from broker.rpc.groups import GroupCalls
from broker.rpc.leasing import LeasingCalls
from broker.rpc.limits import DEFAULT_LIMITS, ClientLimits, Open, Untaken
from broker.rpc.publishing import PublishingCalls
from broker.rpc.reading import ReadingCalls
from broker.rpc.topics import TopicCalls
from broker.rpc.transactions import TransactionCalls


class BulkService(
    DescribingCalls, LeasingCalls, PublishingCalls, ReadingCalls, GroupCalls, TopicCalls, TransactionCalls
):
    """Each part knows its own calls; what none of them has is answered as not supported."""

    def __init__(self, broker: Broker, limits: ClientLimits = DEFAULT_LIMITS) -> None:
        self._broker = broker
        self._streams = Open("publish streams", limits.streams)
        self._watches = Open("watches of transactions", limits.streams)
        self._reads = Open("reads", limits.reads)
        self._untaken = Untaken(limits.untaken_bytes)
