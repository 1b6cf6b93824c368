"""A server takes as many open files as the system lets it have, and not the 1,024 of a shell."""

from __future__ import annotations

import sys

from tests.support import forked

_SHELL = """
import resource
from spooled_pipelines.server.serve import raise_open_files

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096 if hard > 4096 else hard))
raise_open_files()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
assert soft == hard > 256, (soft, hard)
"""


def test_a_server_takes_the_files_it_may_have() -> None:
    ended = forked.run([sys.executable, "-c", _SHELL])
    assert ended.returncode == 0, ended.stderr
