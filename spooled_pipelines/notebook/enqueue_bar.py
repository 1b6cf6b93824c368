"""The bar of an enqueue in a notebook: a card, which needs no widget and is saved as it ends."""

from __future__ import annotations

import time
from collections.abc import Callable

from spooled_pipelines.batch.display.html_card import Card, duration
from spooled_pipelines.batch.display.progress import ThroughputEstimator
from spooled_pipelines.notebook import display
from spooled_pipelines.text import percent

_REDRAW_SECONDS = 0.2
_COLOUR = "#3d7dca"
# Reading that takes less than this is not shown.
_PATIENCE_SECONDS = 0.5


class EnqueueBar:
    """Shows how many rows were read, and then how many were acknowledged; close it."""

    def __init__(self, queue_name: str) -> None:
        self._queue_name = queue_name
        self._draw: Callable[[Card], None] | None = None
        self._began = time.monotonic()
        self._drawn_at = 0.0
        self._throughput = ThroughputEstimator()
        self._card: Card | None = None

    def read(self, rows: int) -> None:
        """Show that so many rows were read and checked."""
        if time.monotonic() - self._began >= _PATIENCE_SECONDS:
            rate = rows / (time.monotonic() - self._began)
            facts = [("read and checked", f"{rows:,} rows"), ("rate", f"{rate:,.0f} rows/s")]
            self._show(Card(f"Reading for {self._queue_name}", facts))

    def begin(self) -> None:
        """Begin to show rows that are sent, in a view of its own."""
        self.close()
        self._draw, self._drawn_at = None, 0.0
        self._began = time.monotonic()

    def update(self, sent: int, total: int) -> None:
        """Show that so many rows were acknowledged."""
        now = time.monotonic()
        self._throughput.update(now, sent)
        whole = max(total, 1)
        facts = [("sent", f"{sent:,} of {total:,} rows ({percent(sent, whole)})")]
        if sent >= total:
            facts.append(("took", duration(now - self._began)))
        elif rate := self._throughput.rate():
            left = duration(self._throughput.left(total - sent) or 0.0)
            facts += [("rate", f"{rate:,.0f} rows/s"), ("time left", left)]
        bar = [(sent / whole, _COLOUR)]
        self._show(Card(f"Enqueue to {self._queue_name}", facts, (), bar), is_last=sent >= total)

    def close(self) -> None:
        """Leave the last state standing."""
        if self._card is not None and self._draw is not None:
            self._draw(self._card)

    def _show(self, card: Card, *, is_last: bool = False) -> None:
        self._card = card
        now = time.monotonic()
        if self._draw is None:
            self._draw = display.show_live(card)
        elif is_last or now - self._drawn_at >= _REDRAW_SECONDS:
            self._draw(card)
        else:
            return
        self._drawn_at = now
