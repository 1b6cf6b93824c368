"""`backup` and `check`: looking after a server's store, while the server runs or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.options import AsJson
from spooled_pipelines.cli.output import print_json

_FAULTY = 1
Store = Annotated[
    str, typer.Option(help="The store of the server: sqlite:///PATH, or postgresql://HOST/NAME.")
]


def backup(
    destination: Annotated[Path, typer.Argument(help="Where the copy goes; no file may be there.")],
    store: Store = "sqlite:///spooled.db",
    as_json: AsJson = False,
) -> None:
    """Copy a store in SQLite as it is at one moment, also while the server runs."""
    from spooled_pipelines.server.store.backup import back_up

    with _explained():
        size = back_up(store, destination)
    if as_json:
        print_json({"path": str(destination), "bytes": size})
        return
    print(f"{destination}: {size:,} bytes".replace(",", " "))


def check(store: Store = "sqlite:///spooled.db", as_json: AsJson = False) -> int:
    """Recount every counter of a store and look its file over; exit code 1 where anything differs.

    The server may run meanwhile. This reads all of the store.
    """
    from spooled_pipelines.server.store.backup import find_faults

    with _explained():
        faults = find_faults(store)
    if as_json:
        print_json({"faults": [str(fault) for fault in faults]})
        return _FAULTY if faults else 0
    for fault in faults:
        print(fault)
    if not faults:
        print("all counters equal a recount, and nothing is damaged")
    return _FAULTY if faults else 0


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    from spooled_pipelines.server.core.errors import StoreUnavailableError

    try:
        yield
    except StoreUnavailableError as error:
        raise UsageError(str(error)) from error
