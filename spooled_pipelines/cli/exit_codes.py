"""Exit codes, and what an error says on the shell: one line, no traceback."""

from __future__ import annotations

import os
import sys

from spooled_pipelines.errors import (
    AuthenticationError,
    BatchFailedError,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RowsRejectedError,
    SpooledError,
    UnavailableError,
)

OK = 0
# More jobs failed than --max-failed allows.
FAILED_JOBS = 1
# A wrong command line, file, column, name or id.
BAD_INPUT = 2
# No server at the address, or it went away.
UNREACHABLE = 3
# No key, a wrong key, or one that may not do this.
DENIED = 4
# Anything else: a limit reached, a time-out of --timeout, a fault of the server.
OTHER = 5
# Ctrl-C.
INTERRUPTED = 130

_CODES: tuple[tuple[type[SpooledError], int], ...] = (
    (BatchFailedError, FAILED_JOBS),
    (InvalidArgumentError, BAD_INPUT),
    (NotFoundError, BAD_INPUT),
    (UnavailableError, UNREACHABLE),
    (DeadlineExceededError, UNREACHABLE),
    (AuthenticationError, DENIED),
    (PermissionDeniedError, DENIED),
)


# What our errors name in Python's words, in those of the shell.
_SAID_HERE = (
    ("the error's table() lists all", "--ledger FILE lists all"),
    ('pass on_rejected="skip"', "give --on-rejected skip"),
    ('pass on_lossy="string"', "give --on-lossy string"),
    ('or "null" to leave them out', "or --on-lossy null to leave them out"),
    ("pass api_key=..., or set", "give --api-key, or set"),
    (
        "(connect('embedded:PATH') needs neither server nor key)",
        "(--address embedded:PATH needs neither server nor key)",
    ),
    ("(the address argument, or SPOOLED_GRPC_ADDRESS)", "(--address, or SPOOLED_GRPC_ADDRESS)"),
)


class UsageError(Exception):
    """What the shell was asked for cannot be done as asked; exit code 2."""


def code_of(error: SpooledError) -> int:
    """The exit code for an error out of the library."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), OTHER)


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    print("spooled-pipelines: " + " ".join(message.split()), file=sys.stderr)


def explain(error: SpooledError) -> str:
    """The message, and the first rejected rows where it is about those."""
    if isinstance(error, RowsRejectedError) and error.examples:
        rows = "; ".join(f"row {example.row}: {example.reason}" for example in error.examples[:3])
        if rows not in error.message:
            return f"{in_shell_words(error.message)} First: {rows}"
    return in_shell_words(error.message)


def in_shell_words(message: str) -> str:
    """The message with options of commands where it names arguments of functions."""
    for said, here in _SAID_HERE:
        message = message.replace(said, here)
    return message


def describe_os_error(error: OSError) -> str:
    """`reports/x.parquet: No such file or directory`, without Python's error number."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{os.fspath(error.filename)!s}: {reason}" if error.filename else reason
