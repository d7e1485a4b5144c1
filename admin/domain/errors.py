"""What the admin refuses, and why."""

from protos.errors import ShardcastError, Status


class AdminError(ShardcastError):
    """The admin could not do that."""

    code = "admin_error"


class UnknownJob(AdminError):
    """There is no job {name}."""

    code = "unknown_job"
    status = Status.NOT_FOUND


class JobExists(AdminError):
    """There is a job {name} already; update it, or choose another name."""

    code = "job_exists"
    status = Status.ALREADY_EXISTS


class JobActive(AdminError):
    """Job {name} has runs that have not ended; cancel them or wait."""

    code = "job_active"
    status = Status.FAILED_PRECONDITION


class JobPaused(AdminError):
    """Job {name} is paused, so nothing starts it: resume it first."""

    code = "job_paused"
    status = Status.FAILED_PRECONDITION


class VersionConflict(AdminError):
    """Job {name} is at version {current}, not {expected}: read it again before you edit it."""

    code = "version_conflict"
    status = Status.ABORTED


class InvalidJob(AdminError):
    """The job cannot be saved: {reason}."""

    code = "invalid_job"
    status = Status.INVALID_ARGUMENT


class InvalidTrigger(AdminError):
    """The trigger {expression!r} is wrong at position {position}: {reason}."""

    code = "invalid_trigger"
    status = Status.INVALID_ARGUMENT


class InvalidParams(AdminError):
    """The parameters do not fit handler {handler}, at {path}: {reason}."""

    code = "invalid_params"
    status = Status.INVALID_ARGUMENT


class NeverFires(AdminError):
    """The trigger {trigger} names no fire time after {after}; change it, or make it manual."""

    code = "never_fires"
    status = Status.INVALID_ARGUMENT


class UnknownRun(AdminError):
    """There is no run {run_id}."""

    code = "unknown_run"
    status = Status.NOT_FOUND


class RunEnded(AdminError):
    """Run {run_id} has ended: it is {state}."""

    code = "run_ended"
    status = Status.FAILED_PRECONDITION


class NothingToRetry(AdminError):
    """Run {run_id} has no failed or lost shards to go on with; rerun starts it anew."""

    code = "nothing_to_retry"
    status = Status.FAILED_PRECONDITION


class IdempotencyConflict(AdminError):
    """The idempotency key {key} was used for another request."""

    code = "idempotency_conflict"
    status = Status.FAILED_PRECONDITION


class UnknownToken(AdminError):
    """There is no token {token_id}."""

    code = "unknown_token"
    status = Status.NOT_FOUND


class IllegalMove(AdminError):
    """A shard that is {state} cannot {move}."""

    code = "illegal_move"


class StoreUnavailable(AdminError):
    """The database does not answer ({reason}); ask again in a moment."""

    code = "store_unavailable"
    status = Status.UNAVAILABLE


class Unstorable(AdminError):
    """The database cannot keep what it was given ({reason}); asking again does not help."""

    code = "unstorable"
    status = Status.INVALID_ARGUMENT


class SchemaOutdated(AdminError):
    """The database is at {current}, this version needs {needed}: run `shardcast db upgrade` of the newer version."""

    code = "schema_outdated"
    status = Status.FAILED_PRECONDITION


class DatabaseInUse(AdminError):
    """The SQLite database {path} is used by another admin; several admins need PostgreSQL, MariaDB or MySQL."""

    code = "database_in_use"
    status = Status.FAILED_PRECONDITION


class AdminStopping(AdminError):
    """The admin is stopping; ask again in a moment."""

    code = "admin_stopping"
    status = Status.UNAVAILABLE


class BrokerAway(AdminError):
    """The broker at {address} does not answer, so topics and groups cannot be asked for: is it running, and is the
    admin's setting `broker` right?"""

    code = "broker_away"
    status = Status.UNAVAILABLE
