"""What Docker runs to see whether the server in a container is ready, against real servers."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.certificates import make_certificate
from tests.support.paged_wire import PagedWire

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "healthcheck.py"


async def health(url: str, **variables: str) -> tuple[int | None, str]:
    """Return the exit code, and what was said."""
    given = {
        "TMPDIR": "/nowhere",
        "SPOOLED_SERVER_HTTP": f"0.0.0.0:{urlsplit(url).port}",
        # A proxy that is named for other ways.
        "http_proxy": "http://127.0.0.1:1",
        **variables,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(SCRIPT),
        env={**os.environ, **given},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    return process.returncode, said.decode()


@pytest.mark.parametrize("tls", ["none", "server's", "both sides'"])
async def test_a_server_that_is_ready_is_healthy_with_tls_as_well(tmp_path: Path, tls: str) -> None:
    pem, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    make_certificate("server").write(Path(pem), Path(key))
    settings = {} if tls == "none" else {"tls_cert": pem, "tls_key": key}
    client = {}
    if tls == "both sides'":
        settings["tls_client_ca"] = pem
        client = {"SPOOLED_TLS_CLIENT_CERT": pem, "SPOOLED_TLS_CLIENT_KEY": key}
    async with PagedWire(tmp_path, **settings) as wire:
        assert await health(wire.url, **client) == (0, "")
        if client:
            assert (await health(wire.url))[0] == 1


async def test_a_server_that_is_not_ready_is_said_with_its_reason(tmp_path: Path) -> None:
    async with PagedWire(tmp_path) as wire:
        url = wire.url
        wire.server._readiness.stopping = True
        code, said = await health(url)
        assert code == 1
        assert "503" in said
    code, said = await health(url)
    assert (code, "refused" in said) == (1, True)


async def test_workers_are_healthy_while_their_files_say_so(tmp_path: Path) -> None:
    """With --processes each has one of its own."""
    nowhere = "http://127.0.0.1:1"
    files = [tmp_path / name for name in ("health", "health-2")]
    for file in files:
        file.write_text("ready\n")
    assert await health(nowhere, TMPDIR=str(tmp_path)) == (0, "")
    files[1].write_text("the server does not answer\n")
    code, said = await health(nowhere, TMPDIR=str(tmp_path))
    assert (code, "health-2: the server does not answer" in said) == (1, True)
    files[1].write_text("ready\n")
    os.utime(files[1], (1, 1))
    assert (await health(nowhere, TMPDIR=str(tmp_path)))[0] == 1
