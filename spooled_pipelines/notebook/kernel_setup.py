"""What a Jupyter kernel is told once: how tables are shown, and where a worker's log goes."""

from __future__ import annotations

import html
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from spooled_pipelines.batch.display.html_card import Card
from spooled_pipelines.batch.display.progress import ThroughputEstimator
from spooled_pipelines.notebook import display
from spooled_pipelines.notebook.stats import stats_card
from spooled_pipelines.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa

    from spooled_pipelines import BatchStats

_REDRAW_SECONDS = 0.25
_LINES_KEPT = 20
_ROWS_SHOWN = 10
_CELL_SIGNS = 60


class WorkerLog(logging.Handler):
    """Shows what workers of the kernel log in one card, below the cell that started the first.

    Without it the log is red lines below whichever cell is running.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._counts: Counter[str] = Counter()
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._draw: Callable[[Card], None] | None = None
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line to the card, which is drawn now and then."""
        try:
            self._counts[record.levelname.lower()] += 1
            self._lines.append(one_line(record.getMessage()))
            if self._draw is None:
                self._draw = display.show_live(self.card())
            elif self._timer is None:
                self._timer = threading.Timer(_REDRAW_SECONDS, self._redraw)
                self._timer.daemon = True
                self._timer.start()
        except Exception:  # noqa: BLE001 - as handlers do: a log line must not end the work
            self.handleError(record)

    def _redraw(self) -> None:
        self._timer = None
        if self._draw is not None:
            self._draw(self.card())

    def card(self) -> Card:
        """Return the card as it is now."""
        facts = [
            (name, f"{count:,} line{'s' if count > 1 else ''}")
            for name, count in self._counts.items()
        ]
        details = ("log", list(self._lines))
        return Card("Workers in this notebook", facts, [self._lines[-1]], details=details)


class _ToCell(logging.Handler):
    """Prints warnings below the cell, but not in red."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage())


_is_set_up = False


def set_up_kernel() -> None:
    """Show tables as tables, and the log of workers in a card; once, and only in a kernel."""
    global _is_set_up  # noqa: PLW0603
    shell = display.kernel_shell()
    if _is_set_up or shell is None:
        return
    _is_set_up = True
    # Only if it is shown: pyarrow may never be loaded.
    formatter = shell.display_formatter.formatters["text/html"]
    formatter.for_type_by_name("pyarrow.lib", "Table", table_html)
    formatter.for_type_by_name("spooled_pipelines.types", "BatchStats", stats_html)
    # Where somebody has set up logging, it stays as it is.
    if not logging.getLogger("spooled_pipelines").hasHandlers():
        workers = logging.getLogger("spooled_pipelines.worker")
        workers.addHandler(WorkerLog())
        workers.setLevel(logging.INFO)
        logging.getLogger("spooled_pipelines.batch").addHandler(_ToCell(logging.WARNING))


def stats_html(stats: BatchStats) -> str:
    """Return the statistics of a batch as HTML."""
    return stats_card(stats, ThroughputEstimator()).html()


def table_html(table: pa.Table) -> str:
    """Return the first rows of an Arrow table as HTML."""
    columns = "".join(f"<th>{_cell(name)}</th>" for name in table.column_names)
    rows = "".join(
        f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row.values())}</tr>"
        for row in table.slice(0, _ROWS_SHOWN).to_pylist()
    )
    more = f"{_ROWS_SHOWN} of " if table.num_rows > _ROWS_SHOWN else ""
    size = f"{more}{table.num_rows:,} rows, {table.num_columns} columns"
    return (
        f"<table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>"
        f"<div>{size}; .to_pandas() for more</div>"
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and len(value) > 1:
        value = f"{value[0]} and {len(value) - 1} more"
    return html.escape(one_line(value, _CELL_SIGNS))
