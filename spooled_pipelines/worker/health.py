"""Whether a worker is live and ready, and a file that says so."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from spooled_pipelines.worker.engine import Engine

# An event loop in which the watchdog has not run for so long hangs.
_STALE_SECONDS = 30.0
_WRITE_SECONDS = 1.0
READY = "ready"


def why_not_live(engine: Engine, settings: WorkerSettings, clock: Clock) -> str | None:
    """Return why only a restart helps; None where the worker is live."""
    if clock.monotonic() - engine.watchdog.ticked_at > _STALE_SECONDS:
        return "the event loop hangs"
    if engine.hanging() >= settings.concurrency:
        return f"all {settings.concurrency} slots are taken by handlers that do not end"
    return None


def why_not_ready(engine: Engine, settings: WorkerSettings, clock: Clock) -> str | None:
    """Return why the worker takes no jobs; None where it does."""
    if engine.is_stopping:
        return "stopping"
    if not engine.fetcher.server_answers:
        return "the server does not answer"
    return why_not_live(engine, settings, clock)


class HealthFile:
    """A file that is written each second while the worker is live, and removed when it ends.

    It holds ``ready``, or why the worker takes no jobs. A liveness probe looks at its age: it is
    left alone where only a restart helps. Nobody sees it half written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()
        if self._path.is_dir():
            raise InvalidArgumentError(f"health_file must be a file, got the folder {str(path)!r}")
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            raise InvalidArgumentError(
                f"health_file {str(path)!r} cannot be written: its folder does not exist or is "
                "not this user's to write to"
            )
        self._is_failing = False

    @contextmanager
    def serve(self, engine: Engine, settings: WorkerSettings, clock: Clock) -> Iterator[None]:
        """Keep the file up to date for this engine."""
        ended = threading.Event()

        def keep_writing() -> None:
            while True:
                if why_not_live(engine, settings, clock) is None:
                    self._write(why_not_ready(engine, settings, clock) or READY)
                if clock.wait_in_thread(ended, _WRITE_SECONDS):
                    return

        thread = threading.Thread(target=keep_writing, name="spooled-worker-health", daemon=True)
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
