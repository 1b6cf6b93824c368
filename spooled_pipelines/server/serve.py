"""Serve in this process until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from spooled_pipelines.server.config.settings import ServerSettings
from spooled_pipelines.server.core.runtime.operator_log import operator_log
from spooled_pipelines.server.server import Server


def run(
    settings: ServerSettings,
    *,
    ready: Callable[[str], None],
    dashboard_ready: Callable[[str], None],
) -> None:
    """Serve in this thread until SIGTERM or SIGINT.

    `ready` gets the address, and before it `dashboard_ready` the dashboard's URL, if there is any.
    """
    raise_open_files()
    _run(_serve(settings, ready, dashboard_ready))


async def _serve(
    settings: ServerSettings, ready: Callable[[str], None], dashboard_ready: Callable[[str], None]
) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = Server(settings)
    server.check()
    await server.start()
    try:
        if server.dashboard_url is not None:
            dashboard_ready(server.dashboard_url)
        ready(server.address)
        server.announce()
        await ended.wait()
        running, grace = server.running_calls, settings.grace_seconds
        operator_log.info("draining: %d calls run, and have %g s to end", running, grace)
    finally:
        await server.stop()
        operator_log.info("stopped")


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run it in uvloop's event loop where that is installed: a tenth less work for each call."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def raise_open_files() -> None:
    """Let this process have as many files open as it may: shells and systemd begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where there is no hard limit, as on macOS, the system still has one that it does not tell.
    wanted = max(soft, 65_536) if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
