"""What other houses and users need to speak to the broker."""

from broker.client.consumer import Consumer
from broker.client.message import Batch, Message, ReceivedMessage
from broker.client.operating.broker import BrokerClient, BrokerState, Durations, Holder
from broker.client.operating.groups import GroupClient, GroupState, MemberState, QueueLag, Reset, ResetTarget
from broker.client.operating.topics import QueueRange, TopicClient, TopicState
from broker.client.publishing.producer import Producer
from broker.client.publishing.receipts import STORED_BEFORE, Receipt, Receipts
from broker.client.publishing.shard_producer import ShardProducer
from broker.client.publishing.transaction import Check, Transaction

__all__ = [
    "STORED_BEFORE",
    "Batch",
    "BrokerClient",
    "BrokerState",
    "Check",
    "Consumer",
    "Durations",
    "GroupClient",
    "GroupState",
    "Holder",
    "MemberState",
    "Message",
    "Producer",
    "QueueLag",
    "QueueRange",
    "Receipt",
    "Receipts",
    "ReceivedMessage",
    "Reset",
    "ResetTarget",
    "ShardProducer",
    "TopicClient",
    "TopicState",
    "Transaction",
]
