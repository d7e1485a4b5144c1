"""What other houses and users need to speak to the broker."""

from broker.client.broker import BrokerClient, BrokerState, Durations, Holder
from broker.client.consumer import Consumer
from broker.client.groups import GroupClient, GroupState, MemberState, QueueLag, Reset, ResetTarget
from broker.client.message import Batch, Message, ReceivedMessage
from broker.client.producer import Producer
from broker.client.receipts import STORED_BEFORE, Receipt, Receipts
from broker.client.shard_producer import ShardProducer
from broker.client.topics import QueueRange, TopicClient, TopicState
from broker.client.transaction import Check, Transaction

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
