"""The same calls in a marimo notebook, run by marimo itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.server_process import ServerProcess

CELLS = """
import marimo

app = marimo.App()


@app.cell
def _():
    import pandas as pd
    from spooled_pipelines.notebook import bulk_enqueue, watch
    from spooled_pipelines.worker import Worker
    return Worker, bulk_enqueue, pd, watch


@app.cell
def _(bulk_enqueue, pd):
    sent = bulk_enqueue(pd.DataFrame({"id": range(50)}), "QUEUE", key="id")
    sent
    return (sent,)


@app.cell
def _(sent, watch):
    view = watch(sent)
    view
    return (view,)


@app.cell
def _(Worker, sent, view):
    Worker(sent.client, "QUEUE", lambda job: {}, stop_when_empty=True).run()
    f"settled: {view.wait().settled}"
    return


if __name__ == "__main__":
    app.run()
"""


def test_marimo_shows_the_summary_and_a_view_that_follows(
    server: ServerProcess, queue: str, tmp_path: Path
) -> None:
    (tmp_path / "cells.py").write_text(CELLS.replace("QUEUE", queue))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "marimo", "-q", "export", "html", "cells.py"),
            *("-o", "cells.html", "--no-include-code"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "SPOOLED_GRPC_ADDRESS": server.address,
            "SPOOLED_API_KEY": server.api_key,
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "cells.html").read_text()
    # (The plan is on the cell's console, which an export leaves out.)
    for shown in ("Enqueued", "watched for", "50 of 50 jobs (100%)"):
        assert shown in html
    assert "settled: True" in html
    assert server.api_key not in html
