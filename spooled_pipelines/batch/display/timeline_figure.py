"""The timeline of a batch as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

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
    created, started, ended = (
        _milliseconds(timeline, name) for name in ("created_at", "started_at", "completed_at")
    )
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

    column = timeline.column(name).cast("int64").cast("float64")
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=float)


def _unit(seconds: float) -> tuple[float, str]:
    if seconds < 300:
        return 1.0, "seconds"
    return (60.0, "minutes") if seconds < 3 * 3600 else (3600.0, "hours")


def _patch(colour: str) -> Patch:
    from matplotlib.patches import Patch

    return Patch(color=colour)
