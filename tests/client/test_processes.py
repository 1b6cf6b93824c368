"""Clients and forks, clients and threads."""

import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from spooled_pipelines import SpooledClient
from tests.support.server_process import ServerProcess

PROGRAM = """
import os, signal, sys
from spooled_pipelines import connect, errors

client = connect(sys.argv[1], api_key=sys.argv[2], timeout_seconds=5)
{before}
child = os.fork()
if child == 0:
    signal.alarm(20)  # a hang past every deadline is what is feared
    try:
        print("child", client.queue_stats(sys.argv[3]).total, flush=True)
    except errors.SpooledError as error:
        print("child", type(error).__name__, error, flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, f"the child ended with {{status}}"
print("parent", client.queue_stats(sys.argv[3]).total, flush=True)
client.close()
"""


def forked(server: ServerProcess, queue: str, before: str, fork_support: str | None) -> list[str]:
    environment = dict(os.environ)
    environment.pop("GRPC_ENABLE_FORK_SUPPORT", None)
    if fork_support is not None:
        environment["GRPC_ENABLE_FORK_SUPPORT"] = fork_support
    program = textwrap.dedent(PROGRAM).format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", program, server.address, server.api_key, queue],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("fork_support", [None, "0", "1"])
def test_a_client_made_before_a_fork_works_on_both_sides_of_it(
    server: ServerProcess, queue: str, fork_support: str | None
) -> None:
    assert forked(server, queue, "", fork_support) == ["child 0", "parent 0"]


def test_a_client_used_before_a_fork_makes_a_channel_of_its_own_after_it(
    server: ServerProcess, queue: str
) -> None:
    lines = forked(server, queue, "client.queue_stats(sys.argv[3])", "1")
    assert lines == ["child 0", "parent 0"]


def test_where_grpc_would_hang_after_a_fork_it_is_refused_with_a_way_out(
    server: ServerProcess, queue: str
) -> None:
    child, parent = forked(server, queue, "client.queue_stats(sys.argv[3])", "0")
    assert child.startswith("child ConflictError")
    assert "spawn" in child
    assert parent == "parent 0"


def test_many_threads_share_one_client(client: SpooledClient, queue: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda n: client.enqueue(queue, {"n": n}), range(100)))
    assert len({result.job_id for result in sent}) == 100
    assert client.queue_stats(queue).pending == 100


def test_ctrl_c_ends_a_call_that_waits(
    client: SpooledClient, server: ServerProcess, queue: str
) -> None:
    program = textwrap.dedent(
        """
        import sys
        from spooled_pipelines import connect
        client = connect(sys.argv[1], api_key=sys.argv[2])
        try:
            for job in client.stream_jobs(sys.argv[3], "w"):
                print("a job", flush=True)
        except KeyboardInterrupt:
            client.close()
            print("interrupted", flush=True)
        """
    )
    client.enqueue(queue, {})
    process = subprocess.Popen(
        [sys.executable, "-c", program, server.address, server.api_key, queue],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "a job\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    server: ServerProcess, queue: str
) -> None:
    program = (
        "import sys; from spooled_pipelines import connect; "
        "print(connect(sys.argv[1], api_key=sys.argv[2]).queue_stats(sys.argv[3]).total)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, server.address, server.api_key, queue],
        env={**os.environ, "http_proxy": "http://127.0.0.1:9", "no_proxy": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
