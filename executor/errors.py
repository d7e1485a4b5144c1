"""What can go wrong in an executor, and the three words a handler has for its own end."""

from datetime import timedelta

from protos.errors import InvalidArgument, ShardcastError, Status
from protos.errors import UnknownHandler as UnknownHandler  # the admin refuses under the same code


def message_of(error: BaseException) -> str:
    """What an error says; a user's own may fail at that."""
    try:
        return str(error)
    except Exception:
        return "its message cannot be shown"


def line_of(error: BaseException) -> str:
    """Its type and what it says."""
    return f"{type(error).__name__}: {message_of(error)}"


class ExecutorError(ShardcastError):
    """The executor could not do that."""

    code = "executor_error"


class Retry(ExecutorError):
    """The handler asks to be tried again: {reason}"""

    code = "retry"

    def __init__(self, reason: str = "", *, after: timedelta | float | None = None) -> None:
        """`after` in seconds where it is a number; None: as the job's retry policy says. Raises InvalidArgument."""
        given: object = after
        if not isinstance(given, int | float | timedelta | None):
            raise InvalidArgument(reason=f"a retry comes after seconds or a timedelta, not {after!r}")
        self.after = timedelta(seconds=after) if isinstance(after, int | float) else after
        super().__init__(reason=reason)


class ClaimHeld(Retry):
    """Somebody else is at work on {key!r:.80} ({count} keys in all); the last of these claims lapses in {seconds:g} s.

    A Retry: what a listener was called with comes again behind that.
    """

    code = "claim_held"
    status = Status.ABORTED

    def __init__(self, key: str, count: int = 1, after: timedelta = timedelta(0)) -> None:
        self.after = after
        ExecutorError.__init__(self, key=key, count=count, seconds=after.total_seconds())


class Fail(ExecutorError):
    """The handler gave up: {reason}"""

    code = "fail"

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason)


class Skip(ExecutorError):
    """The handler had nothing to do: {reason}"""

    code = "skip"

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason=reason)


class Cancelled(ExecutorError):
    """The attempt was stopped: {reason}."""

    code = "cancelled"
    status = Status.CANCELLED


class AttemptTimedOut(ExecutorError):
    """The attempt did not end within its timeout of {seconds:g} s."""

    code = "attempt_timed_out"
    status = Status.DEADLINE_EXCEEDED


class BadHandler(ExecutorError):
    """{name} cannot be a handler: {reason}."""

    code = "bad_handler"
    status = Status.INVALID_ARGUMENT


class HandlerExists(ExecutorError):
    """There is a handler {name} already; names are unique within an executor."""

    code = "handler_exists"
    status = Status.ALREADY_EXISTS


class HandlerDied(ExecutorError):
    """The process of handler {name} died: {how}."""

    code = "handler_died"


class ProgramFailed(ExecutorError):
    """The program {program} ended with exit code {exit_code}: {output}"""

    code = "program_failed"


class MiddlewareFailed(ExecutorError):
    """The middleware {name} failed: {reason}"""

    code = "middleware_failed"


class LifespanFailed(ExecutorError):
    """The lifespan of the app failed as it {what}: {reason}"""

    code = "lifespan_failed"
    status = Status.FAILED_PRECONDITION


class CalledInLoop(ExecutorError):
    """The context of a plain handler waits for the executor's event loop, and was asked in it: ask it in a thread."""

    code = "called_in_loop"
    status = Status.FAILED_PRECONDITION


class NoState(ExecutorError):
    """What the lifespan yielded is in the executor's process; a handler with a process of its own makes its own."""

    code = "no_state"
    status = Status.FAILED_PRECONDITION


class BadParams(ExecutorError):
    """The parameters do not fit handler {name}: {reason}."""

    code = "bad_params"
    status = Status.INVALID_ARGUMENT


class BadResult(ExecutorError):
    """The result of handler {name} cannot be kept: {reason}."""

    code = "bad_result"
    status = Status.INVALID_ARGUMENT


class BadReturn(ExecutorError):
    """What a listener returned cannot be followed: {reason}."""

    code = "bad_return"
    status = Status.INVALID_ARGUMENT


class NoContext(ExecutorError):
    """No attempt runs here; current_context() is for code that a handler calls."""

    code = "no_context"
    status = Status.FAILED_PRECONDITION


class CheckpointOrder(ExecutorError):
    """Rows {first} to {last} of scan {scan} cannot be the checkpoint now: row {expected} is next, counted from 0."""

    code = "checkpoint_order"
    status = Status.FAILED_PRECONDITION


class RowFailed(ExecutorError):
    """Row {key!r} of {table} (scan {scan}) cannot be published: {reason}."""

    code = "row_failed"
    status = Status.FAILED_PRECONDITION


class PublisherBroken(ExecutorError):
    """Rows of the scan are not published, because publish_each was left by {reason}."""

    code = "publisher_broken"
    status = Status.FAILED_PRECONDITION


class ScanRepeated(ExecutorError):
    """The attempt has begun scan {scan} already; give the second one another name."""

    code = "scan_repeated"
    status = Status.ALREADY_EXISTS


class BadCursor(ExecutorError):
    """The cursor of this shard cannot be read: {reason}."""

    code = "bad_cursor"
    status = Status.DATA_LOSS


class ScanError(ExecutorError):
    """The table cannot be scanned."""

    code = "scan_error"
    status = Status.FAILED_PRECONDITION


class UnknownTable(ScanError):
    """There is no table {table} in {database}."""

    code = "unknown_table"
    status = Status.NOT_FOUND


class UnknownColumn(ScanError):
    """Table {table} has no column {column}; it has {known}."""

    code = "unknown_column"
    status = Status.NOT_FOUND


class NullKey(ScanError):
    """Column {column} of {table} holds NULL, so that not every row has a key: fill it or choose another column."""

    code = "null_key"


class DoubleKey(ScanError):
    """Column {column} of {table} holds a value more than once: a key names one row, choose another column."""

    code = "double_key"


class UnfitKey(ScanError):
    """{what} cannot be a key: use integers, text, UUIDs or bytes."""

    code = "unfit_key"
    status = Status.INVALID_ARGUMENT


class NoKey(ScanError):
    """Table {table} has no primary key: name the columns that tell its rows apart, as key=."""

    code = "no_key"


class UnfitBucket(ScanError):
    """Column {column} cannot say the bucket of a row: {reason}."""

    code = "unfit_bucket"
    status = Status.INVALID_ARGUMENT


class ForeignRow(ScanError):
    """Row {key!r} of {table} was found for shard {index}, but belongs to shard {owner}: its bucket is wrong, or the
    database tells the key's text otherwise."""

    code = "foreign_row"


class BadPlan(ScanError):
    """The scan plan that is kept for this run does not fit the call: {reason}."""

    code = "bad_plan"


class BadFilter(ScanError):
    """The filter cannot be used: {reason}."""

    code = "bad_filter"
    status = Status.INVALID_ARGUMENT


class DatabaseUnreachable(ScanError):
    """The database {database} cannot be read: {reason}."""

    code = "database_unreachable"
    status = Status.UNAVAILABLE


class PlanTooLong(ScanError):
    """The scan's plan has {size} bytes, and {limit} can be kept: take fewer shards or a shorter key."""

    code = "plan_too_long"
    status = Status.INVALID_ARGUMENT


class ReplicaBehind(DatabaseUnreachable):
    """The replica {database} does not show the rows of {table} up to {upper!r} after {seconds:g} s."""

    code = "replica_behind"


class LimitsError(ExecutorError):
    """The limits cannot be asked."""

    code = "limits_error"


class NoLimits(LimitsError):
    """No limits are known here: they are given to Executor(group, limits=...), for its handlers and listeners."""

    code = "no_limits"
    status = Status.FAILED_PRECONDITION


class BadLimits(LimitsError):
    """{store} cannot keep limits: {reason}."""

    code = "bad_limits"
    status = Status.INVALID_ARGUMENT


class LimitsUnreachable(LimitsError):
    """The limits in {store} cannot be read or written: {reason}."""

    code = "limits_unreachable"
    status = Status.UNAVAILABLE


class BadApp(ExecutorError):
    """{target} is no app to run: {reason}."""

    code = "bad_app"
    status = Status.INVALID_ARGUMENT


class ShadowedPackage(ExecutorError):
    """{path} shadows Shardcast's own package {package}: rename it, or start from another directory."""

    code = "shadowed_package"
    status = Status.FAILED_PRECONDITION
