"""A file that says whether a worker is live and ready."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.worker.engine import Engine
from spooled_pipelines.worker.log import logger

_WRITE_SECONDS = 1.0
READY = "ready"


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
    def serve(self, engine: Engine) -> Iterator[None]:
        """Keep the file up to date for this engine."""
        ended = threading.Event()

        def keep_writing() -> None:
            while True:
                if engine.why_not_live() is None:
                    self._write(engine.why_not_ready() or READY)
                if engine.clock.wait_in_thread(ended, _WRITE_SECONDS):
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
        beside = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            # Made here, never written through a link that somebody planted.
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with os.fdopen(descriptor, "w") as file:
                file.write(text + "\n")
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
