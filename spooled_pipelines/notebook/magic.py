"""`%enqueue df -q orders --key order_id`."""

from __future__ import annotations

import argparse
import shlex
from typing import NoReturn

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from spooled_pipelines import Batch
from spooled_pipelines.notebook.enqueue import bulk_enqueue


class _Arguments(argparse.ArgumentParser):
    """Refuses a wrong line the way that magics do, instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"%enqueue: {message}. {self.format_usage().strip()}")


def _arguments() -> argparse.ArgumentParser:
    known = _Arguments(prog="%enqueue", add_help=False, allow_abbrev=False)
    known.add_argument("table", help="a DataFrame's name, or an expression in quotes")
    known.add_argument("-q", "--queue", required=True)
    known.add_argument("-k", "--key", action="append")
    known.add_argument("-n", "--name")
    known.add_argument("-p", "--priority", type=int)
    known.add_argument("--address")
    known.add_argument("--on-rejected", choices=["raise", "skip"], default="raise")
    known.add_argument("--on-changed", choices=["keep", "raise", "replace"], default="keep")
    known.add_argument("-y", "--confirm", action="store_true")
    known.add_argument("--on-lossy", choices=["raise", "string", "null", "round"], default="raise")
    return known


@magics_class
class EnqueueMagics(Magics):
    """The line magic; the key of the server comes from the environment alone."""

    @line_magic
    def enqueue(self, line: str) -> Batch:
        """Make each row of a table a job: `%enqueue df -q orders --key order_id`.

        Options: -q/--queue (needed), -k/--key COLUMN (repeat it for several), -n/--name,
        -p/--priority, --address, -y/--confirm, --on-rejected raise|skip, --on-lossy
        raise|string|null, --on-changed keep|raise|replace; each means what it means for
        `bulk_enqueue`.
        """
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise UsageError(f"%enqueue: {error}") from None
        chosen = _arguments().parse_args(words)
        if self.shell is None:
            raise UsageError("%enqueue works in an IPython session only")
        table = self.shell.ev(chosen.table)  # type: ignore[no-untyped-call] # IPython's, untyped
        return bulk_enqueue(
            table,
            chosen.queue,
            address=chosen.address,
            key=chosen.key,
            name=chosen.name,
            priority=chosen.priority,
            confirm=chosen.confirm,
            on_rejected=chosen.on_rejected,
            on_lossy=chosen.on_lossy,
            on_changed=chosen.on_changed,
        )
