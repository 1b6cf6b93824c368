"""Ctrl-C in the middle of what has to be done whole: it comes right after that, and is not lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spooled_pipelines.rpc.signals import defer_sigint


@pytest.fixture(autouse=True)
def handler() -> Iterator[Callable[..., Any]]:
    """Python's own, whatever started the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_comes_once_all_is_done(handler: Callable[..., Any]) -> None:
    done = []

    def interrupted() -> None:
        with defer_sigint():
            done.append("began")
            signal.raise_signal(signal.SIGINT)
            done.append("ended")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["began", "ended"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_without_one_nothing_has_changed(handler: Callable[..., Any]) -> None:
    with defer_sigint():
        pass
    assert signal.getsignal(signal.SIGINT) is handler


def test_who_ignores_interrupts_goes_on_doing_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with defer_sigint():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_have_nothing_to_wait_for(handler: Callable[..., Any]) -> None:
    seen: list[object] = []

    def work() -> None:
        with defer_sigint():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handler]
