"""`watch`: a view of a batch that follows it to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from spooled_pipelines import Batch, BatchStats
from spooled_pipelines.batch.pace import Pace
from spooled_pipelines.errors import BatchTimeoutError, SpooledError
from spooled_pipelines.notebook import frontend
from spooled_pipelines.notebook.html_card import Card
from spooled_pipelines.notebook.progress import move_to, progress_bar
from spooled_pipelines.notebook.stats import stats_card, stats_line
from spooled_pipelines.notebook.stop_button import stop_button
from spooled_pipelines.notebook.summary import Enqueued

# So often the view is drawn at most; and so long it may say what was said before.
_REDRAW_SECONDS = 0.25
_LOOK_SECONDS = 3.0


def watch(batch: Batch | Enqueued) -> Watching:
    """Follow a batch until each of its jobs is settled.

    In a notebook the view goes on changing while other cells run, and stays in the saved notebook
    as it was at last; `.wait()` blocks until the batch is settled, `.stop()` ends the looking. In
    a terminal it is a bar, which blocks. Failed jobs are shown, not raised, and the jobs go on
    whatever becomes of the view.
    """
    followed = batch.batch if isinstance(batch, Enqueued) else batch
    watching = Watching(followed)
    if frontend.is_notebook():
        watching.follow_beside()
    else:
        watching.follow_here()
    return watching


class Watching:
    """A batch that is looked at. Shows where it stands."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._pace = Pace()
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

    @property
    def stats(self) -> BatchStats:
        """Where the batch stood at the last look."""
        return self._latest if self._latest is not None else self.batch.stats()

    @property
    def running(self) -> bool:
        """Whether it is still looked at."""
        return not self._ended.is_set()

    def wait(self, timeout: float | None = None) -> BatchStats:
        """Block until the batch is settled, or for `timeout` seconds; where it stands then.

        However many jobs failed: `batch.wait` is what raises. Interrupt the kernel to go on.

        Raises:
            SpooledError: the server is away for good.
        """
        self._ended.wait(timeout)
        # Some who save notebooks take note only of what is drawn while a cell runs.
        self._draw(self._card())
        return self.stats

    def stop(self) -> None:
        """Look no longer. The jobs go on."""
        if self.running:
            self._stopping.set()
            self._end()

    def follow_beside(self) -> None:
        """Follow in a thread, in a view that stays in its place."""
        self._cell = frontend.cell()
        self._latest = self.batch.stats()
        self._pace.at(time.monotonic(), self._settled())
        self._draw = frontend.show_live(self._card())
        if self._latest.settled:
            self._ended.set()
            return
        self._remove_button = stop_button(self.stop)

        def follow() -> None:
            try:
                self._follow(self._redraw)
            finally:
                self._end()

        frontend.in_background(follow, f"watch {self.batch.id}")

    def follow_here(self) -> None:
        """Follow in a bar, until the end."""
        bar = progress_bar(None, "done", " jobs")

        def draw() -> None:
            stats = self.stats
            bar.set_postfix_str(stats_line(stats), refresh=False)
            move_to(bar, stats.completed + stats.failed, stats.total)

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
            self._pace.at(time.monotonic(), self._settled())
            draw()

        while not self._stopping.is_set():
            if self._look(seen):
                return

    def _look(self, seen: Callable[[BatchStats], None]) -> bool:
        """Look for a while; whether that was all."""
        try:
            self.batch.wait(timeout=_LOOK_SECONDS, max_failed=1.0, on_progress=seen)
        except BatchTimeoutError as late:
            # A look anew, with why nothing moves where that is so.
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
        """The view as it stays; once, whoever comes first."""
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
            state = "not watched any more; watch(…) looks again"
        return stats_card(self.stats, self._pace, time.monotonic() - self._began, state)

    def __repr__(self) -> str:
        return self._card().text()

    def _repr_html_(self) -> str:
        return self._card().html()

    def _ipython_display_(self) -> None:
        # The last line of a cell is shown, and this one's view is there already.
        if self._cell is None or self._cell != frontend.cell():
            frontend.show(self._card())
