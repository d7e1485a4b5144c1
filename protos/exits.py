"""Errors as one sentence and one exit code, in the manner of sysexits.h, for daemons and the command line alike."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

from protos.errors import ShardcastError, Status


class Exit(IntEnum):
    """What scripts may rely on; listed in docs/cli.md."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNFIT_INPUT = 66
    UNREACHABLE = 69
    CANNOT_CREATE = 73
    TEMPORARY = 75
    NO_PERMISSION = 77
    BAD_CONFIGURATION = 78


_CODES = {
    Exit.FAILED: ("daemon_gave_up",),
    Exit.UNFIT_INPUT: (
        "unfit_input",
        "unknown_table",
        "unknown_column",
        "null_key",
        "double_key",
        "unfit_key",
        "database_unreachable",
    ),
    Exit.CANNOT_CREATE: ("address_in_use", "directory_in_use", "directory_unusable", "database_in_use"),
    Exit.BAD_CONFIGURATION: ("bad_configuration", "bad_app", "lifespan_failed", "shadowed_package", "schema_outdated"),
}
_BY_CODE = {code: exit_code for exit_code, codes in _CODES.items() for code in codes}
_BY_STATUS = {
    Status.INVALID_ARGUMENT: Exit.USAGE,
    Status.UNAVAILABLE: Exit.UNREACHABLE,
    Status.DEADLINE_EXCEEDED: Exit.TEMPORARY,
    Status.RESOURCE_EXHAUSTED: Exit.TEMPORARY,
    Status.UNAUTHENTICATED: Exit.NO_PERMISSION,
    Status.PERMISSION_DENIED: Exit.NO_PERMISSION,
}


def exit_code_of(error: ShardcastError) -> Exit:
    """The exit code for an error; what a daemon that did not start exited with is passed on."""
    passed_on = error.fields.get("exit_code")
    if error.code == "daemon_refused" and isinstance(passed_on, int) and passed_on in set(Exit):
        return Exit(passed_on)
    return _BY_CODE.get(error.code) or _BY_STATUS.get(error.status, Exit.FAILED)


@contextmanager
def one_sentence(verbose: bool = False) -> Iterator[None]:
    """Ends the process with a sentence on standard error and the right code where errors of ours come out."""
    try:
        yield
    except* ShardcastError as bundle:
        if verbose:
            traceback.print_exc()
        error = first_of(bundle)
        fail(str(error), exit_code_of(error))


def first_of(bundle: BaseExceptionGroup[ShardcastError]) -> ShardcastError:
    """The first error of a task group's bundle, however deep."""
    first = bundle.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


def fail(sentence: str, code: Exit) -> NoReturn:
    print(" ".join(sentence.split()), file=sys.stderr)
    raise SystemExit(int(code))
