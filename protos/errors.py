"""The root of all errors, and the few that every house shares.

A class says what went wrong once: its docstring is the message (with the fields filled in), `code` is the stable name
that REST, gRPC, CLI and logs use, `status` is the gRPC status it travels under. docs/errors.md lists them all.
"""

import enum
from collections.abc import Mapping
from typing import ClassVar


class Status(enum.StrEnum):
    """Names of gRPC status codes (https://grpc.io/docs/guides/status-codes/), free of the grpc package."""

    CANCELLED = enum.auto()
    INVALID_ARGUMENT = enum.auto()
    DEADLINE_EXCEEDED = enum.auto()
    NOT_FOUND = enum.auto()
    ALREADY_EXISTS = enum.auto()
    PERMISSION_DENIED = enum.auto()
    RESOURCE_EXHAUSTED = enum.auto()
    FAILED_PRECONDITION = enum.auto()
    ABORTED = enum.auto()
    OUT_OF_RANGE = enum.auto()
    UNIMPLEMENTED = enum.auto()
    INTERNAL = enum.auto()
    UNAVAILABLE = enum.auto()
    DATA_LOSS = enum.auto()
    UNAUTHENTICATED = enum.auto()


class ShardcastError(Exception):
    """Something failed inside Shardcast; the daemon's log says more."""

    code: ClassVar[str] = "internal"
    status: ClassVar[Status] = Status.INTERNAL

    def __init__(self, message: str | None = None, /, **fields: object) -> None:
        self.fields: Mapping[str, object] = fields
        super().__init__(message if message is not None else self._sentence(fields))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "code" in vars(cls):
            previous = _BY_CODE.setdefault(cls.code, cls)
            if previous is not cls and previous.__qualname__ != cls.__qualname__:
                raise TypeError(f"the code {cls.code} is taken by {previous.__qualname__}")

    @classmethod
    def _sentence(cls, fields: Mapping[str, object]) -> str:
        first, _, _ = (cls.__doc__ or cls.__name__).partition("\n\n")
        return " ".join(first.split()).format_map(fields)


_BY_CODE: dict[str, type[ShardcastError]] = {"internal": ShardcastError}


def restore(code: str, message: str, fields: Mapping[str, object]) -> ShardcastError:
    """The error that a peer sent, as the class that declares its code; an unknown code becomes a `RemoteError`."""
    known = _BY_CODE.get(code)
    if known is None:
        return RemoteError(message, remote_code=code, **fields)
    return known(message, **fields)


class RemoteError(ShardcastError):
    """The peer refused with a code that this version does not know."""

    code = "remote_error"


class InvalidArgument(ShardcastError):
    """{reason}"""

    code = "invalid_argument"
    status = Status.INVALID_ARGUMENT


class Unauthenticated(ShardcastError):
    """A valid token is needed: set SHARDCAST_TOKEN or give --token."""

    code = "unauthenticated"
    status = Status.UNAUTHENTICATED


class PermissionDenied(ShardcastError):
    """This token may not do that: {reason}."""

    code = "permission_denied"
    status = Status.PERMISSION_DENIED


class Unreachable(ShardcastError):
    """Nothing answers at {address}: is it running, and is the address right?"""

    code = "unreachable"
    status = Status.UNAVAILABLE


class TimedOut(ShardcastError):
    """{address} did not answer in time; the call may or may not have had its effect."""

    code = "timed_out"
    status = Status.DEADLINE_EXCEEDED


class Malformed(ShardcastError):
    """What was sent to {method} is no request that this version can read."""

    code = "malformed"
    status = Status.INVALID_ARGUMENT


class NotSupported(ShardcastError):
    """{feature} is not supported by this version."""

    code = "not_supported"
    status = Status.UNIMPLEMENTED


class UnknownHandler(ShardcastError):
    """The handler {name} is not registered; registered are: {known}."""

    code = "unknown_handler"
    status = Status.FAILED_PRECONDITION


class AddressInUse(ShardcastError):
    """Cannot listen on {address}: the port is in use or not allowed; choose another one."""

    code = "address_in_use"
    status = Status.FAILED_PRECONDITION


class DirectoryInUse(ShardcastError):
    """The data directory {path} is used by another process; stop it or choose another directory."""

    code = "directory_in_use"
    status = Status.FAILED_PRECONDITION


class DirectoryUnusable(ShardcastError):
    """The data directory {path} cannot be used: {reason}."""

    code = "directory_unusable"
    status = Status.FAILED_PRECONDITION


class BadConfiguration(ShardcastError):
    """The configuration is not usable: {faults}."""

    code = "bad_configuration"
    status = Status.INVALID_ARGUMENT
