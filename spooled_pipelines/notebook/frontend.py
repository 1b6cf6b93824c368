"""Where a notebook's output goes: a Jupyter kernel, marimo, or a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from spooled_pipelines.notebook.html_card import Card


def kernel_shell() -> Any:
    """The shell of the Jupyter kernel that runs here (JupyterLab, VS Code, Colab, nbclient, …)."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return shell if getattr(shell, "kernel", None) is not None else None


def marimo() -> Any:
    """The module, where this is a cell of a marimo notebook."""
    module = sys.modules.get("marimo")
    return module if module is not None and module.running_in_notebook() else None


def is_notebook() -> bool:
    """Whether output stays where its cell is, and can be written anew."""
    return marimo() is not None or kernel_shell() is not None


def cell() -> object:
    """What tells the running cell from others; None outside of a kernel."""
    shell = kernel_shell()
    return None if shell is None else shell.execution_count


def show(card: Card) -> None:
    """Put a card below what the cell has shown so far."""
    if marimo() is not None:
        # A cell's output is what its last line gives; what was put there before is gone then.
        print(card.text())
        return
    from IPython.display import display

    display(card)  # type: ignore[no-untyped-call] # IPython's, untyped


def show_live(card: Card) -> Callable[[Card], None]:
    """Show a card, and give back what puts another in its place, from any thread."""
    if (notebook := marimo()) is not None:

        def replace(newer: Card) -> None:
            notebook.output.replace(notebook.Html(newer.html()))

        replace(card)
        return replace
    from IPython.display import display

    handle = display(card, display_id=True)  # type: ignore[no-untyped-call]
    update: Callable[[Card], None] = handle.update
    return update


def in_background(target: Callable[[], None], name: str) -> None:
    """Run it beside the cells that come after."""
    import threading

    notebook = marimo()
    # marimo's threads know which cell's output is theirs.
    kind = threading.Thread if notebook is None else notebook.Thread
    kind(target=target, name=name, daemon=True).start()
