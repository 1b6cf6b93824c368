"""`watch`: a view that follows a batch to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from spooled_pipelines import Batch, BatchStats
from spooled_pipelines.batch.display.html_card import Card
from spooled_pipelines.batch.display.progress import ProgressBar, ThroughputEstimator
from spooled_pipelines.durations import Duration, seconds_of
from spooled_pipelines.errors import BatchTimeoutError, InvalidArgumentError, SpooledError
from spooled_pipelines.notebook import display
from spooled_pipelines.notebook.stats import stats_card, stats_line
from spooled_pipelines.text import shown

# The view is drawn at most this often, and refreshed at least this often.
_REDRAW_SECONDS = 0.25
_REFRESH_SECONDS = 3.0


def watch(batch: Batch) -> BatchView:
    """Follow a batch until each of its jobs is settled.

    In a notebook the view keeps changing while other cells run, and a saved notebook has its last
    state; `.wait()` blocks until the batch is settled, `.stop()` ends the view. In a terminal it is
    a progress bar, which blocks. Failed jobs are shown, not raised, and the jobs go on whatever
    happens to the view.
    """
    if not hasattr(batch, "stats"):
        raise InvalidArgumentError(
            "batch must be a Batch, such as spooled_pipelines.connect().batch('b_…'), got "
            f"{shown(batch)}"
        )
    view = BatchView(batch)
    if display.is_notebook():
        view.follow_in_background()
    else:
        view.follow_blocking()
    return view


class WaitInterrupted(KeyboardInterrupt):
    """The kernel was interrupted while `BatchView.wait` was waiting."""

    def _render_traceback_(self) -> list[str]:
        return [f"Interrupted: {self}"]


class BatchView:
    """A view of a batch that shows its progress."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._throughput = ThroughputEstimator()
        self._began = time.monotonic()
        self._latest: BatchStats | None = None
        self._trouble = ""
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._drawn_at = 0.0
        self._ending = threading.Lock()
        self._draw: Callable[[Card], None] = lambda _: None
        self._remove_button: Callable[[], None] = lambda: None
        self._cell: object = None
        self._is_waited_for = False

    @property
    def stats(self) -> BatchStats:
        """The batch's last known statistics."""
        return self._latest if self._latest is not None else self.batch.stats()

    @property
    def running(self) -> bool:
        """Whether the view still follows the batch."""
        settled = self._latest is not None and self._latest.settled
        return not (settled or self._ended.is_set())

    def wait(self, timeout: Duration | None = None) -> BatchStats:
        """Block until the batch is settled, or for so long, and return its statistics.

        Failed jobs do not raise, unlike in `batch.wait`. Interrupt the kernel to stop waiting.

        Args:
            timeout: seconds, a timedelta, or a text such as "1m"; None: until it is settled.

        Raises:
            WaitInterrupted: the kernel was interrupted; the jobs go on.
            SpooledError: the server is gone for good.
        """
        seconds = None if timeout is None else seconds_of("timeout", timeout)
        self._is_waited_for = True
        try:
            if self.running:
                self._draw(self._card())
            self._ended.wait(seconds)
        except KeyboardInterrupt:
            raise WaitInterrupted(
                "no longer waiting; the jobs and the view go on, and wait() waits again"
            ) from None
        finally:
            self._is_waited_for = False
        # Some frontends save only what is drawn while a cell runs.
        self._draw(self._card())
        return self.stats

    def stop(self) -> None:
        """End the view. The jobs go on."""
        if self.running:
            self._stopping.set()
            self._end()

    def follow_in_background(self) -> None:
        """Follow the batch on a thread, in a view that stays in its place."""
        self._cell = display.cell_number()
        self._latest = self.batch.stats()
        self._throughput.update(time.monotonic(), self._settled())
        self._draw = display.show_live(self._card())
        if self._latest.settled:
            self._ended.set()
            return
        self._remove_button = display.stop_button(self.stop)

        def follow() -> None:
            try:
                self._follow(self._redraw)
            finally:
                self._end()

        display.in_background(follow, f"watch {self.batch.id}")

    def follow_blocking(self) -> None:
        """Follow the batch in a progress bar, until the end."""
        bar = ProgressBar("done", " jobs")

        def draw() -> None:
            stats = self.stats
            bar.update(stats.completed + stats.failed, stats.total, stats_line(stats))

        try:
            self._follow(draw)
        finally:
            self._ended.set()
            bar.close()
        if self._trouble:
            raise SpooledError(self._trouble)

    def _follow(self, draw: Callable[[], None]) -> None:
        def seen(stats: BatchStats) -> None:
            if self._stopping.is_set():
                return
            self._latest = stats
            self._throughput.update(time.monotonic(), self._settled())
            draw()

        while not self._stopping.is_set():
            if self._follow_for_a_while(seen):
                return

    def _follow_for_a_while(self, seen: Callable[[BatchStats], None]) -> bool:
        """Follow the batch for a while; return whether it has ended."""
        try:
            self.batch.wait(timeout=_REFRESH_SECONDS, max_failed=1.0, on_progress=seen)
        except BatchTimeoutError as late:
            # These statistics say why nothing moves, if nothing does.
            if late.stats is not None:
                seen(late.stats)
            return False
        except SpooledError as error:
            self._trouble = error.message
        return True

    def _redraw(self) -> None:
        now = time.monotonic()
        with self._ending:
            if self.running and now - self._drawn_at >= _REDRAW_SECONDS:
                self._drawn_at = now
                self._draw(self._card())

    def _end(self) -> None:
        """Draw the view for the last time; only the first call does."""
        with self._ending:
            if not self._ended.is_set():
                self._draw(self._card())
                self._remove_button()
                self._ended.set()

    def _settled(self) -> int:
        return self._latest.completed + self._latest.failed if self._latest is not None else 0

    def _card(self) -> Card:
        state = ""
        if self._trouble:
            state = self._trouble
        elif self._stopping.is_set():
            state = "no longer watched; watch(…) shows it again"
        card = stats_card(self.stats, self._throughput, time.monotonic() - self._began, state)
        if not (self._is_waited_for and self.running):
            return card
        hint = "wait() holds the cells below back: interrupt the kernel to go on, the jobs do too."
        return replace(card, lines=[*card.lines, hint])

    def __repr__(self) -> str:
        return self._card().text()

    def _repr_html_(self) -> str:
        return self._card().html()

    def _ipython_display_(self) -> None:
        # The cell that called watch() shows the view already.
        if self._cell is None or self._cell != display.cell_number():
            display.show(self._card())
