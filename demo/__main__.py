"""The command line of the demo: `python -m demo [--rows ROWS] [--output FOLDER] [--json]`."""

from __future__ import annotations

import argparse
import sys

from demo.run import run_demo

INTERRUPTED = 130


def main() -> int:
    """Run the demo with the arguments of the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="The flights of New York: enqueued by a DAG, worked, waited for, read back.",
    )
    parser.add_argument("--rows", default="all", help="all, january, or a number of flights")
    parser.add_argument("--output", default="demo-output", help="folder for the results")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args()
    try:
        return run_demo(chosen.rows, chosen.output, as_json=chosen.json)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
