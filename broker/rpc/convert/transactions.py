"""Transactions."""

from broker.errors import BadRequest
from broker.face.transactions import Asked
from broker.model import TransactionEnded
from broker.producers.transactions import Outcome
from broker.rpc.convert.publishing import from_range
from protos.broker.v1 import broker_pb2 as pb

_OUTCOMES = {pb.OUTCOME_COMMIT: Outcome.COMMITTED, pb.OUTCOME_ROLLBACK: Outcome.ROLLED_BACK}


def to_outcome(outcome: pb.Outcome.ValueType) -> Outcome:
    """Raises BadRequest."""
    if outcome not in _OUTCOMES:
        raise BadRequest(reason="a transaction ends by commit or rollback")
    return _OUTCOMES[outcome]


def from_ended(ended: TransactionEnded) -> pb.EndTransactionResponse:
    return pb.EndTransactionResponse(ranges=map(from_range, ended.ranges))


def from_asked(asked: Asked) -> pb.WatchTransactionsResponse:
    return pb.WatchTransactionsResponse(
        transaction_id=asked.transaction_id,
        check=asked.number,
        topic=asked.topic,
        body=asked.body,
        key=asked.key.decode(),
        tag=asked.tag.decode(),
        properties=asked.attributes.properties,
    )
