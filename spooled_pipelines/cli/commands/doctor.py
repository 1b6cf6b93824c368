"""`doctor`: check a set-up step by step."""

from __future__ import annotations

import sys
from typing import Annotated

from spooled_pipelines.cli.options import Server, duration, for_server
from spooled_pipelines.cli.output import print_json
from spooled_pipelines.text import plain

_MARKS = {"ok": "ok", "warning": "!!", "failed": "NO", "skipped": "--"}


@for_server
def doctor(
    server: Server,
    timeout: Annotated[float, duration("How long each step may take, such as 30s.", "5s")] = 5.0,
) -> int:
    """Check a set-up step by step, from the settings to the server's clock, and write nothing.

    The steps: settings, DNS, TCP, TLS, server, key, permissions, batch extension, clock. The exit
    code is that of the first step that fails.
    """
    from spooled_pipelines.cli.doctor_checks import run_checks

    code = 0
    for step in run_checks(server, timeout):
        code = code or step.code
        if server.as_json:
            print_json(step.to_dict())
            continue
        mark = _coloured(_MARKS[step.state], step.state)
        print(f"{mark}  {step.name:<12}{plain(step.text)}", flush=True)
        if step.advice:
            print(f"    {'':<12}→ {plain(step.advice)}", flush=True)
    return code


def _coloured(text: str, state: str) -> str:
    import os

    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    colour = {"ok": 32, "warning": 33, "failed": 31, "skipped": 90}[state]
    return f"\x1b[{colour}m{text}\x1b[0m"
