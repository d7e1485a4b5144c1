"""What the executor and a handler's process tell each other over one socket: a length, then a pickle.

Both run the same program on the same machine, one as the parent of the other: neither has to trust more than that.
"""

import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from broker.client.message import Message
from broker.client.publishing.receipts import Receipts
from executor.errors import line_of
from executor.model import Assignment, Counters, LogLine, Outcome
from protos.errors import ShardcastError, restore

HEAD = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Begin:
    """The first frame, to the process: which function is to run, found by module and name, and on what."""

    module: str
    path: str  # its qualified name
    manner: bytes  # a pickle of its own: it may name classes of modules that cannot be imported
    assignment: Assignment
    deadline: datetime | None
    limits: str | None  # the URL of the app's


@dataclass(frozen=True, slots=True)
class Stop:
    """To the process: the handler is to stop at its next call."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lease:
    """To the process, again and again: how long the lease lasts as it is now."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Open:
    """Asks to open the shard's producer; answered with its log id and cursor."""


@dataclass(frozen=True, slots=True)
class Propose:
    """Asks which value the run keeps."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Asks to send one atomic publish; answered when it is on its way, and again when it is acknowledged."""

    topic: str
    messages: Sequence[Message]
    cursor: bytes | None


@dataclass(frozen=True, slots=True)
class Flush:
    """Asks to wait until all is acknowledged."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Of the process."""

    number: int
    what: Open | Propose | Publish | Flush


@dataclass(frozen=True, slots=True)
class Refused:
    """An error of ours on its way to the other side."""

    code: str
    message: str
    fields: Mapping[str, str | int | float | None] = field(default_factory=dict)

    def raised(self) -> ShardcastError:
        return restore(self.code, self.message, self.fields)


@dataclass(frozen=True, slots=True)
class Answer:
    """To an Ask."""

    number: int
    value: object = None
    refused: Refused | None = None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A publish is durable, or refused."""

    number: int
    receipts: Receipts | None = None
    refused: Refused | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """The handler logged a line."""

    line: LogLine


@dataclass(frozen=True, slots=True)
class Counted:
    """How far the handler is."""

    counters: Counters


@dataclass(frozen=True, slots=True)
class Ended:
    """The last frame, of the process: how its handler ended."""

    outcome: Outcome


ToProcess = Begin | Stop | Lease | Answer | Acknowledged
OfProcess = Ask | Logged | Counted | Ended


def packed(frame: ToProcess | OfProcess) -> bytes:
    data = pickle.dumps(frame, protocol=pickle.HIGHEST_PROTOCOL)
    return HEAD.pack(len(data)) + data


def size_of(head: bytes) -> int:
    return int(HEAD.unpack(head)[0])


def refused(error: BaseException) -> Refused:
    """Of an error that is not ours only what it says."""
    if not isinstance(error, ShardcastError):
        return Refused(ShardcastError.code, line_of(error))
    fields = {
        name: value if isinstance(value, str | int | float | None) else str(value)
        for name, value in error.fields.items()
    }
    return Refused(error.code, str(error), fields)


def plain(messages: Sequence[Message]) -> list[Message]:
    """As they can be pickled: a view of a mapping cannot."""
    return [replace(message, properties=dict(message.properties)) for message in messages]
