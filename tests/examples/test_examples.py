"""Every example runs, alone and against a server, and says what it says here."""

import os
import sys
from pathlib import Path

import pytest

from tests.support import forked
from tests.support.sampling import sampled
from tests.support.server_process import ServerProcess

FOLDER = Path(__file__).parent.parent.parent / "examples"
# Those of orchestrators are run by tests/prefect and tests/dagster.
HELPERS = {"example_server.py", "prefect_flow.py", "dagster_assets.py"}

EXPECTED = {
    "enqueue.py": """\
enqueued: True
status of the one for tomorrow: scheduled
invoice 1042 created: True
invoice 1042 created: False
""",
    "dequeue.py": """\
claimed: 3
completed: {'area': 6}
completed: {'area': 20}
failed: a rectangle of -1 by 1 does not exist; will be tried again: False
""",
    "stream.py": """\
done: {'number': 0}
done: {'number': 1}
done: {'number': 2}
""",
    "bidirectional.py": """\
completed
failed, to be tried again: False
completed
failed, to be tried again: False
""",
    "renew_lease.py": """\
part 1 of 3; the lease is longer than the first: True
part 2 of 3; the lease is longer than the first: True
part 3 of 3; the lease is longer than the first: True
a settled job has no lease any more: FAILED_PRECONDITION
""",
    "worker.py": """\
completed: 2, dead: 1
completed {'area': 6}
completed {'area': 20}
deadletter there is no such rectangle
""",
    "graceful_shutdown.py": """\
some are done: True
none is left half done: True
the rest waits for another worker: True
""",
    "heartbeat.py": """\
completed: {'number': 0}
completed: {'number': 1}
completed: {'number': 2}
heartbeat acknowledged: True, asked to drain: False
""",
    "queue_stats.py": """\
pending: 2
processing: 1
completed: 1
deadletter: 1
total: 5
""",
    "handle_errors.py": """\
a job that is not there: NotFoundError NOT_FOUND
a priority beyond the limit: InvalidArgumentError None
a number beyond 2**53: payload.id would not survive
a lease of somebody else: the job is somebody else's now, drop the result
a job that is done already: ConflictError FAILED_PRECONDITION
a wrong key: AuthenticationError UNAUTHENTICATED
no server at all: UnavailableError UNAVAILABLE
""",
    "keepalive.py": """\
grpc.keepalive_time_ms = 30000
grpc.keepalive_timeout_ms = 10000
grpc.keepalive_permit_without_calls = 1
grpc.http2.min_time_between_pings_ms = 10000
grpc.http2.max_pings_without_data = 0
after 0.3 s in which nothing happened: {'late': True}
""",
    "retry.py": """\
given up after 3 tries
the same job: True
""",
}
# Those that every run of the tests starts without a server; each starts one of its own there.
ALONE = {"enqueue.py", "worker.py"}
ARGUMENTS = {"keepalive.py": ["0.3"]}


def run(name: str, environment: dict[str, str], cwd: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SPOOLED_")}
    done = forked.run(
        [sys.executable, str(FOLDER / name), *ARGUMENTS.get(name, [])],
        env={**clean, **environment},
        cwd=cwd,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    # How long a retry waits is left to chance.
    return "".join(line for line in done.stdout.splitlines(True) if not line.startswith("INFO"))


def test_every_example_is_here() -> None:
    there = {path.name for path in FOLDER.glob("*.py")} - HELPERS
    assert there == set(EXPECTED)


def test_every_example_is_in_the_list_for_readers() -> None:
    listed = (FOLDER / "README.md").read_text()
    assert [name for name in EXPECTED if f"`{name}`" not in listed] == []


@pytest.mark.parametrize("name", sampled(EXPECTED, ALONE))
def test_it_runs_with_nothing_else(name: str, tmp_path: Path) -> None:
    assert run(name, {}, tmp_path) == EXPECTED[name]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", EXPECTED)
def test_it_runs_against_a_server(name: str, server: ServerProcess, tmp_path: Path) -> None:
    where = {"SPOOLED_GRPC_ADDRESS": server.address, "SPOOLED_API_KEY": server.api_key}
    assert run(name, where, tmp_path) == EXPECTED[name]
