"""What came of a listener's call, and what it means for the messages of the call."""

from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from broker.client.message import Message, ReceivedMessage
from executor.errors import BadReturn, Fail, Retry, Skip, line_of
from executor.model import Handled

MAX_ERROR_CHARACTERS = 1_000

Messages = Sequence[ReceivedMessage]


@dataclass(frozen=True, slots=True)
class Done:
    """The messages are handled, and these are to be published."""

    publish: Sequence[Message] = ()


DONE = Done()


@dataclass(frozen=True, slots=True)
class Partly:
    """The first `count` messages are handled; the others are to come again after that time, which is no attempt."""

    count: int
    after: timedelta
    publish: Sequence[Message] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The function raised: which message it was is not known yet where there are several."""

    error: str


@dataclass(frozen=True, slots=True)
class Again:
    """The function asks to get the same messages again; `after` None: as the group's policy says."""

    error: str
    after: timedelta | None


@dataclass(frozen=True, slots=True)
class Hopeless:
    """The function says that another try is of no use."""

    error: str


Verdict = Done | Partly | Failed | Again | Hopeless


def verdict_on(error: BaseException) -> Failed | Again | Hopeless | Done:
    """Of what the function raised, or publishing met: Retry, Fail and Skip may be raised or returned."""
    match error:
        case Retry():
            return Again(str(error), error.after)
        case Fail():
            return Hopeless(str(error))
        case Skip():
            return DONE
        case _:
            return Failed(line_of(error)[:MAX_ERROR_CHARACTERS])


def verdict_of(returned: object, given: int, *, publishes: bool) -> Verdict:
    """Of what the function returned for so many messages. Raises BadReturn."""
    match returned:
        case None:
            return DONE
        case BaseException():
            return verdict_on(returned)
        case Handled():
            return _partly(returned, given, publishes=publishes)
        case Coroutine() | Generator() | AsyncGenerator() if not publishes:
            raise BadReturn(reason=f"nobody runs what is {_kind(returned)}")
        case _:
            return Done(gathered(returned)) if publishes else DONE


def is_narrowed(messages: Messages, verdict: Verdict) -> bool:
    """Whether the halves are to be tried, so that one bad message does not take the others along."""
    return len(messages) > 1 and isinstance(verdict, Failed | Hopeless)


def halves(messages: Messages) -> tuple[Messages, Messages]:
    middle = len(messages) // 2
    return messages[:middle], messages[middle:]


def gathered(returned: object) -> Sequence[Message]:
    """The messages to publish. Raises BadReturn for anything else, and whatever a generator raises."""
    if returned is None:
        return ()
    if isinstance(returned, Message):
        return (_as_new(returned),)
    if not isinstance(returned, Iterable) or isinstance(returned, str | bytes):
        raise BadReturn(reason=f"with to= it is a Message, several of them, or None, not {_kind(returned)}")
    made = tuple(returned)
    if set(map(type, made)) <= {Message}:
        return made
    for index, each in enumerate(made):
        if not isinstance(each, Message):
            raise BadReturn(reason=f"number {index} of what was to be published is no Message, but {_kind(each)}")
    return tuple(_as_new(each) for each in made)


def _partly(handled: Handled, given: int, *, publishes: bool) -> Done | Partly:
    count: object = handled.count
    after: object = handled.after
    if not isinstance(count, int) or not 0 <= count <= given:
        raise BadReturn(reason=f"Handled({count!r}) is not between 0 and the {given} that it was called with")
    if not isinstance(after, timedelta) or after < timedelta(0):
        raise BadReturn(reason=f"the rest of Handled comes again after seconds or a timedelta, not {after!r}")
    made = gathered(handled.publish)
    if made and not publishes:
        raise BadReturn(reason="only a listener with to= can publish by Handled")
    if made and not count:
        raise BadReturn(reason="Handled(0) has no message that it could publish for")
    return Done(made) if count == given else Partly(count, after, made)


def _as_new(message: Message) -> Message:
    """What was received, and is passed on, does not go where it came from."""
    if not isinstance(message, ReceivedMessage):
        return message
    return Message(message.body, message.key, message.tag, message.properties, None, None, message.ordered)


def _kind(value: object) -> str:
    return f"of the type {type(value).__name__}"
