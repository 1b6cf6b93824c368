"""Looking at where threads are never makes the process stand still."""

from __future__ import annotations

import subprocess
import sys
import threading

from spooled_pipelines.worker.handlers.thread_frames import frame_of

# Some threads end, and garbage whose finalizers let them run is collected while the frames of the
# many others are made.
_BUSY = """
import gc, threading, time
from spooled_pipelines.worker.handlers.thread_frames import frame_of

class Garbage:
    def __init__(self):
        self.itself = self
    def __del__(self):
        time.sleep(0.001)

def make_threads():
    while True:
        thread = threading.Thread(target=time.sleep, args=(0.0005,))
        thread.start()
        thread.join()

never = threading.Event()
for target in [make_threads] * 2 + [never.wait] * 40:
    threading.Thread(target=target, daemon=True).start()
gc.set_threshold(20, 1, 1)
for _ in range(40):
    garbage = [Garbage() for _ in range(5)]
    del garbage
    assert frame_of(threading.get_ident()) is not None
print("went on")
"""


def test_a_thread_is_found_and_one_that_has_ended_is_not() -> None:
    ended = threading.Thread(target=str)
    ended.start()
    ended.join()
    assert frame_of(ended.ident or 0) is None
    frame = frame_of(threading.get_ident())
    assert frame is not None
    assert frame.f_code.co_name == "frame_of"


def test_the_process_goes_on_though_garbage_is_collected_and_threads_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BUSY], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "went on\n"
