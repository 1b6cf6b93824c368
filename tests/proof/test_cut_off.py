"""One of two servers loses its database without a word: nobody who knows both loses anything.

Once by a proxy that moves nothing, and once by packets that get lost on a network of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support import programs
from tests.support.postgres import Cluster
from tests.support.proof.cut_off import Story, tell
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

# Of a range that is for documentation: nobody's.
HERE, FIRST, SECOND = "198.51.100.1", "198.51.100.2", "198.51.100.3"
# Both addresses lead to the database's socket, from a namespace that is on the other side.
FORWARD = """
import sys
from tests.support.proxy import Proxy

target, *hosts = sys.argv[1:]
with Proxy(target, host=hosts[0]) as first, Proxy(target, host=hosts[1]) as second:
    print(first.address, second.address, flush=True)
    sys.stdin.read()
"""


def check(story: Story) -> None:
    print(f"\n{story}")
    assert story.completed == story.jobs
    # What was in hand when the database went may run again, once its lease is over.
    assert story.wrong == []
    before = [health for since, _, health in story.lines if since < 0]
    assert set(before) == {"SERVING"}
    assert "NOT_SERVING" in [health for since, _, health in story.lines if since > 0]
    assert story.exit_code == 0


def test_a_proxy_that_moves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.database()
    parts = conninfo_to_dict(url)
    with Proxy(f"unix:{parts['host']}/.s.PGSQL.5432") as proxy:
        through = f"postgresql://postgres:@{proxy.address}/{parts['dbname']}"
        check(tell((through, url), tmp_path, proxy.hold, proxy.release))


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """Two networks of this test's own, with a wire between them."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("cannot be here: network namespaces take root and iproute2")
    here, there = (f"spooled-{os.getpid()}-{side}" for side in ("here", "there"))
    with ExitStack() as stack:
        for name in (here, there):
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"cannot be here: no network namespace can be made ({error.stderr})")
            stack.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "near", "netns", here, "type", "veth", "peer", "far", "netns", there)
        ip("-n", here, "address", "add", f"{HERE}/24", "dev", "near")
        for address in (FIRST, SECOND):
            ip("-n", there, "address", "add", f"{address}/24", "dev", "far")
        ip("-n", here, "link", "set", "near", "up")
        ip("-n", there, "link", "set", "far", "up")
        yield here, there


def test_packets_that_get_lost(
    cluster: Cluster, tmp_path: Path, namespaces: tuple[str, str]
) -> None:
    here, there = namespaces
    parts = conninfo_to_dict(cluster.database())
    inside = ["ip", "netns", "exec"]
    forward = subprocess.Popen(
        [
            *inside,
            there,
            sys.executable,
            "-c",
            FORWARD,
            f"unix:{parts['host']}/.s.PGSQL.5432",
            FIRST,
            SECOND,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=programs.environment(),
    )
    with forward:
        assert forward.stdout is not None
        urls = [
            f"postgresql://postgres:@{address}/{parts['dbname']}"
            for address in forward.stdout.readline().split()
        ]
        # Frames to an address that no card has go nowhere, and nobody says so.
        lose = f"ip neigh replace {FIRST} lladdr 02:00:00:00:00:99 dev near nud permanent"
        find = f"ip neigh del {FIRST} dev near"
        told = subprocess.run(
            [
                *inside,
                here,
                *programs.command("proof.cut_off", *urls, str(tmp_path), lose, find),
            ],
            env=programs.environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert forward.stdin is not None
        forward.stdin.close()
    check(Story(**json.loads(told.stdout.splitlines()[-1])))
