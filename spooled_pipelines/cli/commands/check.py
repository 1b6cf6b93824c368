"""`check`: compare the counters of a store with a recount, and verify its file."""

from __future__ import annotations

from spooled_pipelines.cli.exit_codes import FAILED, OK
from spooled_pipelines.cli.options import AsJson
from spooled_pipelines.cli.output import print_json, say
from spooled_pipelines.cli.store_access import StoreUrl, usage_error_if_unavailable


def check(store: StoreUrl = "sqlite:///spooled.db", as_json: AsJson = False) -> int:
    """Recount every counter of a store and verify its file; exit code 1 if anything differs.

    The server may run meanwhile. This reads the whole store.
    """
    from spooled_pipelines.server.store.administration.backup import find_faults

    with usage_error_if_unavailable():
        faults = find_faults(store)
    if as_json:
        print_json({"faults": [str(fault) for fault in faults]})
        return FAILED if faults else OK
    for fault in faults:
        say(fault)
    if not faults:
        print("all counters equal a recount, and nothing is damaged")
    return FAILED if faults else OK
