"""A reader of a batch's results, to be killed: `settled_reader.py ADDRESS KEY BATCH FILE`.

It goes on from the cursor of the last line of its file that is whole.
"""

from __future__ import annotations

import json
import os
import sys

from spooled_pipelines import connect


def main() -> None:
    address, key, batch_id, path = sys.argv[1:]
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    lines = os.read(file, 1 << 24).decode().splitlines()
    cursor = json.loads(lines[-1])["cursor"] if lines else None
    with connect(address, api_key=key) as client:
        settled = client.batch(batch_id).as_settled(after=cursor)
        for rows in settled:
            line = {"n": rows["n"].to_pylist(), "cursor": settled.cursor}
            os.write(file, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    main()
