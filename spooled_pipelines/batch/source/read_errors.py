"""What a reader raises, as one error that says what could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from spooled_pipelines.errors import InvalidArgumentError, SourceError, SpooledError


@contextmanager
def readable(what: str, row: int | None = None) -> Iterator[None]:
    """Name `what`, and the row behind which reading failed.

    Raises:
        SourceError: the system or the network failed; another try may do.
        InvalidArgumentError: what is there is not what it should be.
    """
    try:
        yield
    except OSError as error:
        raise SourceError(_message(what, row, error)) from error
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise InvalidArgumentError(_message(what, row, error)) from error
    except SpooledError:
        raise
    except Exception as error:
        # Whoever iterates for us has errors of their own; they are not hidden behind one of ours.
        if hasattr(error, "add_note"):
            error.add_note(_message(what, row, error))
        raise


def failed(what: str, row: int | None, error: Exception) -> SourceError:
    """The same for an error of a kind that nobody here knows, such as a database driver's."""
    return SourceError(_message(what, row, error))


def _message(what: str, row: int | None, error: Exception) -> str:
    where = f" behind row {row - 1}" if row else ""
    said = " ".join(str(error).split())
    said = said if len(said) <= 300 else said[:297] + "..."
    return f"{what} cannot be read{where}: {said or type(error).__name__}. Nothing was sent."
