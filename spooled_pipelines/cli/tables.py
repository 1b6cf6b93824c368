"""Arrow tables to files and terminals."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pyarrow as pa

# As many rows as a screen takes.
_SHOWN_ROWS = 20
_ROWS_AT_ONCE = 10_000


def write(table: pa.Table, path: Path) -> None:
    """Write the table as the file's suffix says; the file appears whole or not at all."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(table, beside)
        elif path.suffix == ".csv":
            import pyarrow.csv

            pyarrow.csv.write_csv(_flat(table), beside)
        else:
            with Path(beside).open("w", encoding="utf-8") as file:
                write_json_lines(table, file)
        # Temporary files are made for their owner alone; this one is an ordinary file.
        umask = os.umask(0)
        os.umask(umask)
        Path(beside).chmod(0o666 & ~umask)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def write_json_lines(table: pa.Table, file: TextIO) -> None:
    """One JSON object a row."""
    for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
        rows = batch.to_pylist()
        file.writelines(json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in rows)
    file.flush()


def show(table: pa.Table) -> None:
    """The first rows in columns, and how many there are."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table()
    for name in table.column_names:
        drawn.add_column(Text(name), overflow="ellipsis", no_wrap=True)
    for row in table.slice(0, _SHOWN_ROWS).to_pylist():
        drawn.add_row(*(Text(_cell(value)) for value in row.values()))
    console = Console()
    console.print(drawn)
    if table.num_rows > _SHOWN_ROWS:
        console.print(f"{_SHOWN_ROWS} of {table.num_rows:,} rows; -o FILE.parquet keeps them all")


def _cell(value: Any) -> str:
    return "" if value is None else str(value).split("\n", 1)[0]


def _flat(table: pa.Table) -> pa.Table:
    """CSV has no lists and objects: they are written as JSON text."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [
                None if value is None else json.dumps(value, default=str, ensure_ascii=False)
                for value in table.column(place).to_pylist()
            ]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table
