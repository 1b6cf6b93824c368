"""`copy FROM TO`: carry a store over into another one, which may be of the other kind."""

from __future__ import annotations

from typing import Annotated

import typer

from spooled_pipelines.cli.live_line import LiveLine
from spooled_pipelines.cli.options import AsJson
from spooled_pipelines.cli.output import print_json
from spooled_pipelines.cli.store_access import usage_error_if_unavailable


def copy(
    source: Annotated[
        str,
        typer.Argument(metavar="FROM", help="sqlite:///PATH, or postgresql://HOST/NAME."),
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="TO", help="Another such URL, of a store that is new or empty."),
    ],
    as_json: AsJson = False,
) -> None:
    """Carry a store over into an empty one, between SQLite and PostgreSQL either way.

    Stop the servers on both first. If it is interrupted, the same command goes on with it; no
    server starts on TO before it is complete.
    """
    from spooled_pipelines.server.store.administration.copying import copy as copy_store

    line = LiveLine()
    with usage_error_if_unavailable(), line:
        copied = copy_store(
            source,
            target,
            lambda table, there, total: line.show(f"{table}: {there:,} of {total:,}"),
        )
    if as_json:
        print_json({each.table: each.target_rows for each in copied})
        return
    for each in copied:
        if each.source_rows:
            print(f"{each.table}: {each.target_rows:,} rows, as in FROM")
    print("the copy is complete; a server may start on it")
