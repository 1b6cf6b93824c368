"""A real JupyterLab in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import eventually

START_SECONDS = 60.0
_HOMES = (
    "IPYTHONDIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
)


@contextmanager
def running_lab(folder: Path, runtime: Path, **environment: str) -> Iterator[str]:
    """Gives the address of its page for `folder`; what it keeps for itself goes to `runtime`."""
    settings = runtime / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    # Otherwise it asks whether it may.
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    own = {home: str(runtime) for home in _HOMES}
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--ServerApp.token="),
        *("--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"),
        # Nothing is asked of other machines.
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]
    with (runtime / "lab.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **own, **environment}, stdout=log, stderr=log
        )
    try:
        (info,) = eventually(lambda: list(runtime.glob("jpserver-*.json")), START_SECONDS)
        yield json.loads(info.read_text())["url"] + "lab"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
