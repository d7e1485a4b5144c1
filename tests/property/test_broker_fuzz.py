"""Nonsense sent to a broker in a process of its own: each gets a clear code, and the daemon lives."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.broker.v1 import broker_pb2 as pb
from protos.channel import CODE_KEY
from tests.support.broker_process import BrokerProcess
from tests.support.proto_strategies import messages_of

SERVICE = pb.DESCRIPTOR.services_by_name["BrokerService"]
METHODS = {method.name: method for method in SERVICE.methods}
SECONDS = 1.0  # a call may wait as long; then its end is its caller's own doing
UNCLEAR = {"internal", ""}

several = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker that must have lived through everything."""
    broker = BrokerProcess(tmp_path_factory.mktemp("fuzz") / "broker")
    with asyncio.Runner() as runner:
        runner.run(broker.start())
        yield broker.endpoint
        assert runner.run(broker.stop()) == 0


@pytest.fixture(scope="module")
def channel(endpoint: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(endpoint) as channel:
        yield channel


def code_of(channel: grpc.Channel, method: MethodDescriptor, request: bytes) -> str:
    """The code that the call was refused with, "ok", or "late" when it still waits."""
    path = f"/{SERVICE.full_name}/{method.name}"
    try:
        if method.client_streaming:
            call = channel.stream_stream(path)(iter([request]), timeout=SECONDS)
            answers = [pb.PublishResponse.FromString(answer) for answer in call]
            return answers[0].refusal.code or "ok" if answers else ""
        if method.server_streaming:
            next(iter(channel.unary_stream(path)(request, timeout=SECONDS / 10)), None)
        else:
            channel.unary_unary(path)(request, timeout=SECONDS)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return "late"
        return str(dict(error.trailing_metadata() or ()).get(CODE_KEY, ""))
    return "ok"


@pytest.mark.parametrize("name", METHODS)
def test_a_request_of_nonsense_gets_a_clear_answer(channel: grpc.Channel, name: str) -> None:
    @several
    @given(messages_of(METHODS[name].input_type))
    def check(request: Message) -> None:
        assert code_of(channel, METHODS[name], request.SerializeToString()) not in UNCLEAR

    check()


@pytest.mark.parametrize("name", METHODS)
def test_bytes_that_are_no_request_get_a_clear_answer(channel: grpc.Channel, name: str) -> None:
    @several
    @given(st.binary(min_size=1, max_size=60))
    def check(data: bytes) -> None:
        assert code_of(channel, METHODS[name], data) not in UNCLEAR

    check()


ATTRIBUTES = pb.Attributes(index=1, ordered=True)
DELAYED = pb.Attributes(deliver_at_ms=1 << 46)


def _publish(**batch: Any) -> pb.PublishRequest:
    batches = [pb.TopicBatch(topic="t", **batch)]
    return pb.PublishRequest(producer_id="producer/fuzz", term=1, holder_id="h", sequence=1, batches=batches)


def _lease(**given: Any) -> pb.LeaseRequest:
    return pb.LeaseRequest(group="leasing", member_id="m", topic="t", **given)


def _settle(*, action: Any = pb.ACTION_ACKNOWLEDGE, **given: Any) -> pb.SettleRequest:
    settlements = [pb.Settlement(action=action, **given)]
    return pb.SettleRequest(group="leasing", member_id="m", topic="t", settlements=settlements)


def _resend(**given: Any) -> pb.ResendDeadLettersRequest:
    return pb.ResendDeadLettersRequest(group="leasing", **given)


MOST32, MOST64 = (1 << 32) - 1, (1 << 64) - 1
CRAFTED = {
    "more keys than messages": ("Publish", _publish(bodies=[b"1"], keys=["a", "b"]), "bad_request"),
    "fewer tags than messages": ("Publish", _publish(bodies=[b"1"] * 3, tags=["a", "b"]), "bad_request"),
    "attributes of no message": ("Publish", _publish(bodies=[b"1"], attributes=[ATTRIBUTES]), "bad_request"),
    "a queue that there is not": ("Publish", _publish(bodies=[b"1"], queue=MOST32), "unknown_queue"),
    "a key that is too long": ("Publish", _publish(bodies=[b"1"], keys=["k" * 2_000]), "too_large"),
    "too many messages": ("Publish", _publish(bodies=[b""] * 70_000), "too_many"),
    "a thousand years of delay": ("Publish", _publish(bodies=[b"1"], attributes=[DELAYED]), "delay_too_long"),
    "everything at once": ("Fetch", pb.FetchRequest(topic="t", max_messages=MOST32, max_bytes=MOST32), "ok"),
    "behind all ends": ("Fetch", pb.FetchRequest(topic="t", offset=MOST64), "offset_out_of_range"),
    "a queue behind all": ("Fetch", pb.FetchRequest(topic="t", queue=MOST32), "unknown_queue"),
    "too many queues": ("CreateTopic", pb.CreateTopicRequest(name="wide", queues=MOST32), "bad_request"),
    "more leases than anybody gets": ("Lease", _lease(max_messages=MOST32), "bad_request"),
    "the shortest lease": ("Lease", _lease(lease_ms=1), "bad_request"),
    "the longest lease": ("Lease", _lease(lease_ms=MOST32), "bad_request"),
    "attempts that never were": ("Settle", _settle(offsets=[0, MOST64], attempts=[MOST32, 0]), "ok"),
    "more offsets than attempts": ("Settle", _settle(offsets=[0, 1], attempts=[1]), "bad_request"),
    "no action": ("Settle", _settle(offsets=[0], attempts=[1], action=0), "bad_request"),
    "a rate of no number": ("ResendDeadLetters", _resend(messages_per_second=float("nan")), "bad_request"),
    "a rate below none": ("ResendDeadLetters", _resend(messages_per_second=-1.0), "bad_request"),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_what_is_almost_right_is_refused_with_its_own_code(channel: grpc.Channel, case: str) -> None:
    assert code_of(channel, METHODS["CreateTopic"], pb.CreateTopicRequest(name="t").SerializeToString()) == "ok"
    opening = pb.OpenProducerRequest(producer_id="producer/fuzz", term=1, holder_id="h")
    assert code_of(channel, METHODS["OpenProducer"], opening.SerializeToString()) == "ok"
    method, request, code = CRAFTED[case]
    assert code_of(channel, METHODS[method], request.SerializeToString()) == code


@several
@given(data=st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_http_do_not_hurt(endpoint: str, data: bytes) -> None:
    host, port = endpoint.split(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        connection.sendall(data)


def test_the_broker_still_serves(endpoint: str, channel: grpc.Channel, tmp_path: Path) -> None:
    """Last in the file: what was done to it before must not show."""
    request = pb.CreateTopicRequest(name="still-here", queues=1)
    assert code_of(channel, METHODS["CreateTopic"], request.SerializeToString()) == "ok"
    assert code_of(channel, METHODS["DescribeBroker"], b"") == "ok"
