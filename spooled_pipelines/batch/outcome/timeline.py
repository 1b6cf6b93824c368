"""The times at which a batch's jobs came, began and ended: as a table, and as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spooled_pipelines.batch.spill import SpillBuffer
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc.decode import job_status_from
from spooled_pipelines.wire import spooled_v1

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

_TIMES = ("created_at", "started_at", "completed_at")
_TIME = pa.timestamp("ms", "UTC")
_IDS = [("job_id", pa.string()), ("status", pa.string())]
# Times in milliseconds since the epoch, as they are put aside.
_ROWS = pa.schema([*_IDS, *((name, pa.int64()) for name in _TIMES)])
_SCHEMA = pa.schema([*_IDS, *((name, _TIME) for name in _TIMES), ("seconds", pa.float64())])
_BATCH_ROWS = 5_000
# As fine as a screen; more points would only make the file larger.
_POINTS = 600
_BINS = 40
# From a spread of this on, most jobs would share one bar of a plain scale.
_LOG_FROM = 100.0
# Told apart on white and in print, and by those who do not tell red from green.
_BANDS = (
    ("waiting", "#c9ccd3"),
    ("running", "#3d7dca"),
    ("completed", "#2e9e6b"),
    ("failed", "#d1495b"),
)


class Timeline:
    """When the jobs of a batch came, began and ended, in any order and in flat memory."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, int | None, int | None, int | None]] = []
        self._spill = SpillBuffer(_ROWS)

    def add(self, job: spooled_v1.Job) -> None:
        """Record a job as the server returned it."""
        created, started, completed = (
            getattr(job, name).ToMilliseconds() if job.HasField(name) else None for name in _TIMES
        )
        status = str(job_status_from(job.status))
        self._rows.append((job.id, status, created, started, completed))
        if len(self._rows) >= _BATCH_ROWS:
            self._flush()

    def reader(self) -> pa.RecordBatchReader:
        """Return job_id, status, the three times and the seconds of the last attempt."""
        self._flush()
        batches = (_with_seconds(rows) for rows in self._spill.batches())
        return pa.RecordBatchReader.from_batches(_SCHEMA, batches)

    def _flush(self) -> None:
        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            self._spill.write(pa.record_batch(columns, schema=_ROWS))
            self._rows = []


def _with_seconds(rows: pa.RecordBatch) -> pa.RecordBatch:
    import pyarrow.compute as pc

    took = pc.subtract(rows.column("completed_at"), rows.column("started_at"))
    seconds = pc.divide(pc.cast(took, pa.float64()), 1000.0)
    times = [pc.cast(rows.column(name), _TIME) for name in _TIMES]
    return pa.record_batch([*rows.columns[:2], *times, seconds], schema=_SCHEMA)


def draw(timeline: pa.Table, title: str) -> Figure:
    """Return a matplotlib Figure: jobs by status over time, and a histogram of durations.

    Args:
        timeline: the table that `Batch.timeline` returns.
        title: above it.

    Raises:
        InvalidArgumentError: there is nothing to draw.
        ImportError: there is no matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "plot() needs matplotlib: pip install 'spooled-pipelines[plot]'; the figures "
            "themselves are in timeline()"
        ) from error
    if not timeline.num_rows:
        raise InvalidArgumentError(f"{title} has no jobs, so there is nothing to draw")

    class BatchFigure(Figure):
        """A Figure that notebooks show, whatever they know of matplotlib."""

        def _repr_png_(self) -> bytes:
            import io

            file = io.BytesIO()
            self.savefig(file, format="png", dpi=100)
            return file.getvalue()

    # Not one of pyplot's figures: those are shown once more at the end of a cell, and kept.
    figure = BatchFigure(figsize=(9.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    over_time, histogram = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_statuses(over_time, timeline)
    _draw_durations(histogram, timeline)
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_statuses(axes: Axes, timeline: pa.Table) -> None:
    import numpy as np

    grid, bands = statuses_over_time(timeline)
    colours = [colour for _, colour in _BANDS]
    names = [f"{name} ({bands[name][-1]:,})" for name, _ in _BANDS]
    seconds = (grid - grid[0]) / 1000
    divisor, unit = _unit(seconds[-1])
    axes.stackplot(
        seconds / divisor, np.vstack([bands[name] for name, _ in _BANDS]), colors=colours
    )
    axes.set_xlabel(f"{unit} since the first was enqueued")
    axes.set_ylabel("jobs")
    axes.margins(0)
    patches = [_patch(colour) for colour in colours]
    axes.legend(patches, names, fontsize=8, loc="best", framealpha=0.8)


def _draw_durations(axes: Axes, timeline: pa.Table) -> None:
    import numpy as np

    took = timeline.column("seconds").drop_null().to_numpy()
    axes.set_ylabel("jobs")
    axes.set_xlabel("seconds from start to end (last try)")
    if not len(took):
        axes.text(0.5, 0.5, "none has ended yet", ha="center", transform=axes.transAxes)
        return
    # Times are whole milliseconds, and 0 has no place on a logarithmic scale.
    least, most = max(float(took.min()), 0.001), max(float(took.max()), 0.002)
    if most / least >= _LOG_FROM:
        axes.set_xscale("log")
        bins = np.geomspace(least, most, _BINS + 1)
    else:
        # No bar is narrower than the millisecond that times are told in.
        width = max(np.ceil((most - least) / _BINS * 1000), 1) / 1000
        bins = least - width / 2 + width * np.arange(np.ceil((most - least) / width) + 2)
    axes.hist(np.clip(took, bins[0], None), bins=bins.tolist(), color="#3d7dca")
    middle = float(np.median(took))
    axes.axvline(max(middle, bins[0]), color="#d1495b", linewidth=1)
    axes.set_title(f"median {middle:.3g} s, slowest {float(took.max()):.3g} s", fontsize=9)


def statuses_over_time(timeline: pa.Table) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Return evenly spaced times in ms, and the number of jobs in each band at each time.

    A job that was tried several times counts as waiting until its last try: that is what the
    server keeps.
    """
    import numpy as np

    statuses = np.asarray(timeline.column("status").to_pylist())
    created, started, ended = (_milliseconds(timeline, name) for name in _TIMES)
    settled = np.isin(statuses, ("completed", "deadletter", "cancelled"))
    # One that goes back into the queue keeps the start of the try that failed.
    started = np.where(settled | (statuses == "processing"), started, np.nan)
    ended = np.where(settled, ended, np.nan)
    known = np.concatenate([times[~np.isnan(times)] for times in (created, started, ended)])
    grid = np.linspace(known.min(), max(known.max(), known.min() + 1), _POINTS)

    def count(times: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.searchsorted(np.sort(times[~np.isnan(times)]), grid, "right")

    completed = count(ended[statuses == "completed"])
    failed = count(ended[settled & (statuses != "completed")])
    never_began = settled & np.isnan(started)
    began = count(started) + count(ended[never_began])
    bands = {
        "waiting": count(created) - began,
        "running": began - completed - failed,
        "completed": completed,
        "failed": failed,
    }
    return grid, bands


def _milliseconds(timeline: pa.Table, name: str) -> np.ndarray[Any, Any]:
    import numpy as np

    column = timeline.column(name).cast(pa.int64())
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=float)


def _unit(seconds: float) -> tuple[float, str]:
    if seconds < 300:
        return 1.0, "seconds"
    return (60.0, "minutes") if seconds < 3 * 3600 else (3600.0, "hours")


def _patch(colour: str) -> Patch:
    from matplotlib.patches import Patch

    return Patch(color=colour)
