"""`work --processes N` and `--reload`: workers in processes of their own, looked after."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from spooled_pipelines.cli.exit_codes import BAD_INPUT, DENIED, UsageError

if TYPE_CHECKING:
    from spooled_pipelines.worker import WorkerReport

# How a worker's process is told where its figures go.
FIGURES_VARIABLE = "SPOOLED_WORK_FIGURES"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
# What starting again does not cure.
_HOPELESS = (BAD_INPUT, DENIED)
_LOOK_SECONDS = 0.1
_TELL_SECONDS = 0.25


class _Member:
    """One worker process, and the next one where it crashed."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self.figures: Mapping[str, int] = {}
        # What processes before this one did.
        self.before: Counter[str] = Counter()
        self.pause = _FIRST_PAUSE
        self.restart_at: float | None = None
        # To be started again once it has ended.
        self.is_replaced = False
        self._start()

    def _start(self) -> None:
        reading, writing = os.pipe()
        self.started_at = time.monotonic()
        self.restart_at = None
        self.is_replaced = False
        # A session of its own: Ctrl-C is for the one who looks after it.
        self.process = subprocess.Popen(  # noqa: S603 - this program itself
            [sys.executable, "-m", "spooled_pipelines.cli.main", *self._arguments],
            env={**os.environ, FIGURES_VARIABLE: str(writing)},
            pass_fds=[writing],
            start_new_session=True,
        )
        os.close(writing)
        threading.Thread(target=self._read, args=(reading,), daemon=True).start()

    def start_again(self) -> None:
        self.before.update(self.figures)
        self.figures = {}
        self._start()

    def _read(self, reading: int) -> None:
        with os.fdopen(reading) as lines:
            for line in lines:
                self.figures = json.loads(line)


class Fleet:
    """Starts workers, starts those again that crash, and hands signals on.

    Args:
        arguments: of each worker's command.
        show: called with the figures of all together, now and then.
        reloads: one that ends waits for `restart`.
        aside: entered around each message, so that it does not tear a live line.
    """

    def __init__(
        self,
        arguments: Sequence[Sequence[str]],
        show: Callable[[Counter[str]], None],
        *,
        reloads: bool = False,
        aside: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self._arguments = arguments
        self._show = show
        self._members: list[_Member] = []
        self._signals = 0
        self._reloads = reloads
        self._aside = aside

    def figures(self) -> Counter[str]:
        """What all of them did, crashed ones included as far as they said it."""
        total: Counter[str] = Counter()
        for member in self._members:
            total.update(member.before)
            total.update(member.figures)
        return total

    def run(self) -> int:
        """Until they have ended; the exit code: the first that is not 0, else 0."""
        with self._listening():
            self._members = [_Member(each) for each in self._arguments]
            while not self._look_after():
                self._show(self.figures())
                time.sleep(_LOOK_SECONDS)
        codes = [member.process.returncode for member in self._members]
        if self._signals:
            # One that was told so early that it did not yet listen had nothing to finish.
            codes = [0 if code == -signal.SIGTERM else code for code in codes]
        return next((code if code > 0 else 128 - code for code in codes if code), 0)

    def restart(self) -> None:
        """End each in its own time, and start it again with the code as it is now."""
        for member in self._members:
            member.is_replaced = True
        self._send(signal.SIGTERM)

    def tell(self, message: str) -> None:
        """A line for people, beside the live one. From any thread."""
        with self._aside():
            print(f"spooled-pipelines: {message}", file=sys.stderr, flush=True)

    def _look_after(self) -> bool:
        """Whether all have ended for good."""
        ended = [self._has_ended(member) for member in self._members]
        return all(ended)

    def _has_ended(self, member: _Member) -> bool:
        now = time.monotonic()
        code = member.process.poll()
        if code is None:
            if now - member.started_at > _LONGEST_PAUSE:
                member.pause = _FIRST_PAUSE
            return False
        if self._signals:
            return True
        if member.is_replaced:
            member.start_again()
        elif code in (0, *_HOPELESS):
            # Where code is being written, the next change may be what it takes.
            return not self._reloads
        elif member.restart_at is None:
            how = f"status {code}" if code > 0 else signal.Signals(-code).name
            self.tell(
                f"worker {member.process.pid} ended with {how}; "
                f"another starts in {member.pause:g} s"
            )
            member.restart_at = now + member.pause
            member.pause = min(_LONGEST_PAUSE, member.pause * 2)
        elif now >= member.restart_at:
            member.start_again()
        return False

    def _send(self, number: int) -> None:
        for member in self._members:
            with contextlib.suppress(ProcessLookupError):
                member.process.send_signal(number)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            self._signals += 1
            self._send(signal.SIGTERM)

        before = {
            number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for member in self._members:
                if member.process.poll() is None:
                    member.process.kill()
                member.process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)


def reload_on_change(fleet: Fleet, folder: Path) -> threading.Thread:
    """Restart the fleet whenever a Python file below the folder changes, on a thread.

    UsageError where the package that notices is not installed.
    """
    try:
        # For development alone.
        from watchfiles import PythonFilter, watch
    except ImportError:
        raise UsageError(
            "--reload needs watchfiles: pip install 'spooled-pipelines[worker]'"
        ) from None

    def follow() -> None:
        for changes in watch(folder, watch_filter=PythonFilter(), raise_interrupt=False):
            names = ", ".join(sorted({Path(path).name for _, path in changes}))
            fleet.tell(f"{names} changed, starting again")
            fleet.restart()

    thread = threading.Thread(target=follow, name="spooled-reload", daemon=True)
    thread.start()
    return thread


@contextlib.contextmanager
def told_figures(report: Callable[[], WorkerReport], stop: Callable[[], None]) -> Iterator[bool]:
    """In a worker of a fleet: tell what was done, and stop where nobody listens any more.

    Whether there is a fleet.
    """
    place = os.environ.pop(FIGURES_VARIABLE, None)
    if place is None:
        yield False
        return
    done = threading.Event()
    with os.fdopen(int(place), "w") as figures:

        def tell() -> None:
            print(json.dumps(asdict(report())), file=figures, flush=True)

        def keep_telling() -> None:
            try:
                while not done.wait(_TELL_SECONDS):
                    tell()
            except OSError:
                # Whoever looked after this process is gone.
                stop()

        thread = threading.Thread(target=keep_telling, name="spooled-figures", daemon=True)
        thread.start()
        try:
            yield True
        finally:
            done.set()
            thread.join()
            with contextlib.suppress(OSError):
                tell()
