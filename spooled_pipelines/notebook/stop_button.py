"""A button that ends the looking, where ipywidgets is there."""

from __future__ import annotations

from collections.abc import Callable

from spooled_pipelines.notebook import frontend


def stop_button(pressed: Callable[[], None]) -> Callable[[], None]:
    """Show it; returns what takes it away again. The view itself needs no widget, so that it is
    still there in a saved notebook; the button is not, once there is nothing to end."""
    if frontend.kernel_shell() is None:
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
