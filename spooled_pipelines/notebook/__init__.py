"""Bulk enqueue from a notebook: `bulk_enqueue(df, "orders")`, `watch(batch)`, `%enqueue`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled_pipelines.notebook.enqueue import EnqueueInterrupted, bulk_enqueue
from spooled_pipelines.notebook.kernel_setup import set_up_kernel
from spooled_pipelines.notebook.plan import ConfirmationNeededError
from spooled_pipelines.notebook.watch import BatchView, watch

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = [
    "BatchView",
    "ConfirmationNeededError",
    "EnqueueInterrupted",
    "bulk_enqueue",
    "load_ipython_extension",
    "watch",
]

set_up_kernel()


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magic `%enqueue`, for `%load_ext spooled_pipelines.notebook`."""
    from spooled_pipelines.notebook.magic import EnqueueMagics

    shell.register_magics(EnqueueMagics(shell=shell))


def __dir__() -> list[str]:
    return sorted(__all__)
