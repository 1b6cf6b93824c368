"""The guide's calls, made by Node's gRPC library over our proto file."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.server_process import ServerProcess

HERE = Path(__file__).parent / "node"
PROTOS = Path(__file__).parents[2] / "proto"
INSTALL_SECONDS, RUN_SECONDS = 100, 60


@pytest.fixture(scope="session")
def node_folder(request: pytest.FixtureRequest) -> Path:
    """The script with its packages, installed once into pytest's cache."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed, so that the guide's own examples cannot run")
    folder = Path(request.config.cache.mkdir("node"))
    with (folder / "lock").open("w") as lock:
        # Several pytest processes may share the cache.
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (HERE / "package.json").read_bytes()
        done = folder / "installed.json"
        if not done.exists() or done.read_bytes() != wanted:
            (folder / "package.json").write_bytes(wanted)
            install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
            ended = subprocess.run(
                [*install, "--loglevel=error"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
            )
            assert ended.returncode == 0, ended.stderr
            done.write_bytes(wanted)
        shutil.copy(HERE / "guide.js", folder)
    return folder


@pytest.mark.timeout(INSTALL_SECONDS + RUN_SECONDS)
def test_every_call_of_the_guide_works(
    node_folder: Path, server: ServerProcess, queue: str
) -> None:
    command = ["node", "guide.js", str(PROTOS), server.address, server.api_key, queue]
    ended = subprocess.run(
        command, cwd=node_folder, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "every call of the guide" in ended.stdout
