"""The entry point of the command `spooled-pipelines`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit with one of the codes of `spooled_pipelines.cli.exit_codes`."""
    # gRPC logs problems to stderr itself; our errors report them.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from spooled_pipelines.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        print(
            f"spooled-pipelines: the command line needs {error.name}: "
            "pip install 'spooled-pipelines[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
