"""Whether a worker lives and is ready, and a file that says so."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from spooled_pipelines.worker.engine import Engine

# An event loop that did not come round for so long hangs.
_STALE_SECONDS = 30.0
_TOUCH_SECONDS = 1.0
READY = "ready"


def why_not_live(engine: Engine, settings: WorkerSettings) -> str | None:
    """Why only a restart helps; None where it lives."""
    if time.monotonic() - engine.watch.ticked_at > _STALE_SECONDS:
        return "the event loop hangs"
    if engine.hanging() >= settings.concurrency:
        return f"all {settings.concurrency} slots are with handlers that do not end"
    return None


def why_not_ready(engine: Engine, settings: WorkerSettings) -> str | None:
    """Why it takes no jobs; None where it does."""
    if engine.is_stopping:
        return "stopping"
    if not engine.intake.answered:
        return "the server does not answer"
    return why_not_live(engine, settings)


class HealthFile:
    """A file that is written each second while the worker lives, and removed when it ends.

    It holds ``ready``, or why the worker takes no jobs. Its age is what a liveness probe looks at:
    it is left alone where only a restart helps. Others never see it half written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()
        if self._path.is_dir():
            raise InvalidArgumentError(f"health_file {str(path)!r} is a folder: name a file in it")
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            raise InvalidArgumentError(
                f"health_file {str(path)!r} cannot be written: its folder does not exist or is "
                "not this user's to write to"
            )
        self._is_failing = False

    @contextmanager
    def of(self, engine: Engine, settings: WorkerSettings) -> Iterator[None]:
        """Keep it for this engine."""
        ended = threading.Event()

        def keep() -> None:
            while True:
                if why_not_live(engine, settings) is None:
                    self._write(why_not_ready(engine, settings) or READY)
                if ended.wait(_TOUCH_SECONDS):
                    return

        thread = threading.Thread(target=keep, name="spooled-worker-health", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            beside.write_text(text + "\n")
            beside.replace(self._path)
        except OSError as error:
            # The probe will say so; the work goes on until then.
            if not self._is_failing:
                logger.warning("health file %s not written: %s", self._path, error)
            self._is_failing = True
            with suppress(OSError):
                beside.unlink(missing_ok=True)
        else:
            self._is_failing = False
