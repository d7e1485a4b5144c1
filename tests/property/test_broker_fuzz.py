"""Nonsense sent to a broker in a process of its own: each gets a clear code, and the daemon lives."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

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
