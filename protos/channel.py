"""Dialling a peer over gRPC: one place for keepalive, message sizes, tokens, and foreign errors given our names."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import grpc.aio

from protos.errors import ShardcastError, TimedOut, Unreachable, restore

MAX_MESSAGE_BYTES = 16 << 20  # a publish of 8 MiB plus its columns; grpc's own default of 4 MiB is too small
CODE_KEY = "shardcast-code"
FIELDS_KEY = "shardcast-fields-bin"
CALL_SECONDS = 10.0  # deadline of a call that names no other

_TRANSPORT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL)
"""What grpc itself says of a peer that went away, INTERNAL where a write was under way; ours carry their code."""

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # the server's side of keepalive, else too_many_pings
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),  # a restarted daemon is found again within seconds
    ("grpc.enable_http_proxy", 0),  # daemons are dialled directly, whatever proxy the environment names
)


def dial(address: str) -> grpc.aio.Channel:
    """A plaintext channel to "host:port"; connects lazily and again by itself. Close it."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Call metadata that carries the token; none where there is no token."""
    return (("authorization", f"Bearer {token}"),) if token else ()


@contextmanager
def renamed(address: str) -> Iterator[None]:
    """Turns grpc's errors into ours: the one that the peer named, else Unreachable or TimedOut."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, address) from error


def from_rpc_error(error: grpc.aio.AioRpcError, address: str) -> ShardcastError:
    metadata = dict(error.trailing_metadata() or ())
    if (code := metadata.get(CODE_KEY)) is not None:
        fields = json.loads(metadata.get(FIELDS_KEY, b"{}"))
        return restore(str(code), error.details() or "", fields)
    if error.code() in _TRANSPORT:
        return Unreachable(address=address)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimedOut(address=address)
    return ShardcastError(f"{address} answered {error.code().name}: {error.details()}")
