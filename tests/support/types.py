"""What the fixtures of `tests/conftest.py` are, for those who take them."""

from __future__ import annotations

from collections.abc import Callable

from spooled_pipelines import AsyncSpooledClient
from tests.support.server_process import ServerProcess

# Opens a client of either kind, whose calls are awaited: see the fixture `open_client`.
OpenClient = Callable[..., AsyncSpooledClient]
StartServer = Callable[..., ServerProcess]
