"""The exit codes of the commands."""

from __future__ import annotations

from spooled_pipelines.errors import (
    AuthenticationError,
    BatchFailedError,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    SourceError,
    SpooledError,
    UnavailableError,
)

OK = 0
# More jobs failed than --max-failed allows, or `check` found faults.
FAILED = 1
# A wrong command line, file, column, name or id.
BAD_INPUT = 2
# No server at the address, or it went away.
UNREACHABLE = 3
# No key, a wrong key, or one that may not do this.
DENIED = 4
# Anything else: a limit reached, a time-out of --timeout, a fault of the server.
OTHER = 5
# The data could not be read to its end: a disk, a network or a database failed. Try again.
SOURCE_FAILED = 6
# Ctrl-C.
INTERRUPTED = 130

_BY_ERROR: tuple[tuple[type[SpooledError], int], ...] = (
    (BatchFailedError, FAILED),
    (InvalidArgumentError, BAD_INPUT),
    (NotFoundError, BAD_INPUT),
    (UnavailableError, UNREACHABLE),
    (DeadlineExceededError, UNREACHABLE),
    (AuthenticationError, DENIED),
    (PermissionDeniedError, DENIED),
    (SourceError, SOURCE_FAILED),
)


class UsageError(Exception):
    """A command that cannot be run as given; exit code 2."""


class CommandInterruptedError(Exception):
    """Ctrl-C, with what it leaves behind; exit code 130."""


def exit_code_of(error: SpooledError) -> int:
    """Return the exit code for an error of the library."""
    return next((code for cls, code in _BY_ERROR if isinstance(error, cls)), OTHER)
