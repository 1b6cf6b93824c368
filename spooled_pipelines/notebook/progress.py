"""The progress bar of a notebook."""

from __future__ import annotations

import warnings
from typing import Any


def progress_bar(total: int | None, description: str, unit: str) -> Any:
    """Return a `tqdm.auto` bar: a widget in JupyterLab, text elsewhere."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # Without ipywidgets tqdm warns on import, and then draws a bar of text, which is fine.
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm

    return tqdm(total=total, desc=description, unit=unit, mininterval=0.2, dynamic_ncols=True)


def move_to(bar: Any, done: int, total: int | None) -> None:
    """Set the bar to a count instead of adding to it."""
    if total is not None and bar.total != total:
        bar.total = total
    bar.n = done
    bar.refresh() if total is not None and done >= total else bar.update(0)
