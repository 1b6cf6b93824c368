"""Output of cells in a Jupyter kernel, in marimo, or in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from spooled_pipelines.batch.display.html_card import Card


def kernel_shell() -> Any:
    """Return the shell of the Jupyter kernel that runs here, or None."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return shell if getattr(shell, "kernel", None) is not None else None


def marimo() -> Any:
    """Return the module marimo if this is a cell of a marimo notebook, else None."""
    module = sys.modules.get("marimo")
    return module if module is not None and module.running_in_notebook() else None


def is_notebook() -> bool:
    """Return whether output stays below its cell and can be replaced."""
    return marimo() is not None or kernel_shell() is not None


def cell_number() -> object:
    """Return the execution count of the running cell; None outside a kernel."""
    shell = kernel_shell()
    return None if shell is None else shell.execution_count


def show(card: Card) -> None:
    """Show a card below what the cell has shown so far."""
    if marimo() is not None:
        # In marimo a cell's output is its last expression, which replaces what was shown before.
        print(card.text())
        return
    from IPython.display import display

    display(card)  # type: ignore[no-untyped-call] # IPython's, untyped


def show_live(card: Card) -> Callable[[Card], None]:
    """Show a card; return a function that replaces it, from any thread."""
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
    """Run a function beside the cells that come after."""
    import threading

    notebook = marimo()
    # marimo's own threads know to which cell their output belongs.
    thread_class = threading.Thread if notebook is None else notebook.Thread
    thread_class(target=target, name=name, daemon=True).start()


def stop_button(pressed: Callable[[], None]) -> Callable[[], None]:
    """Show a button that ends a view, if ipywidgets is installed; return what removes it.

    The view itself needs no widget, so that a saved notebook still has it.
    """
    if kernel_shell() is None:
        return lambda: None
    try:
        import ipywidgets
    except ImportError:
        return lambda: None
    from IPython.display import display

    button = ipywidgets.Button(description="Stop watching", tooltip="The jobs go on.")
    button.on_click(lambda _: pressed())
    view = {
        "application/vnd.jupyter.widget-view+json": {
            "version_major": 2,
            "version_minor": 0,
            "model_id": button.model_id,
        },
        "text/plain": "",
    }
    handle = display(view, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def remove() -> None:
        handle.update({"text/plain": ""}, raw=True)
        button.close()

    return remove
