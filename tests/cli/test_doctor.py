"""`doctor` names the step that is wrong, and what to do about it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import SpooledClient
from spooled_pipelines.cli import doctor_checks
from spooled_pipelines.wire.keys_v1 import CreateKeyRequest
from spooled_pipelines.wire.methods import KEY_SERVICE, methods_of
from tests.support.certificates import make_certificate
from tests.support.cli import command
from tests.support.server_process import ServerProcess


def diagnosed(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and what was found by step."""
    done = command("doctor", "--json", "--timeout", "3", *arguments)
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    return done.code, {step["step"]: step for step in steps}


@pytest.fixture(autouse=True)
def _key(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)


def test_a_set_up_that_works_passes_each_step(server: ServerProcess) -> None:
    code, steps = diagnosed("--address", server.address)
    assert code == 0
    assert list(steps) == [
        *("settings", "DNS", "TCP", "TLS", "server", "key", "permissions", "extension", "clock")
    ]
    assert {step["state"] for step in steps.values()} == {"ok"}


@pytest.mark.parametrize(
    ("arguments", "failed", "code", "said"),
    [
        (["--address", "host:99999"], "settings", 2, "99999"),
        (["--address", "no-such-host.invalid:1"], "DNS", 3, "no-such-host.invalid"),
        (["--address", "127.0.0.1:1"], "TCP", 3, "127.0.0.1:1"),
        (["--address", "unix:/nowhere.sock"], "TCP", 3, "/nowhere.sock"),
        (["--api-key", "sp_test_wrong"], "key", 4, "--api-key"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_step_that_is_wrong_is_the_last_one(
    server: ServerProcess,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    failed: str,
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", server.address)
    ended, steps = diagnosed(*arguments)
    *passed, last = steps.values()
    assert (ended, last["step"], last["state"]) == (code, failed, "failed")
    assert all(step["state"] != "failed" for step in passed)
    assert "sp_test_wrong" not in json.dumps(steps)
    assert said in last["text"]


def test_without_a_key_the_settings_are_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPOOLED_API_KEY")
    code, steps = diagnosed("--address", "127.0.0.1:1")
    assert code == 4
    assert "SPOOLED_API_KEY" in steps["settings"]["text"]


def test_one_server_of_several_may_be_away(server: ServerProcess) -> None:
    done = command("doctor", "--json", "--address", f"{server.address},127.0.0.1:1")
    states = [json.loads(line)["state"] for line in done.stdout.splitlines()]
    assert (done.code, states.count("warning"), states.count("failed")) == (0, 1, 0)


@pytest.mark.parametrize(
    ("role", "queues", "may", "not_"),
    [
        ("read", [], "may read", "enqueue, work, administrate"),
        ("produce", ["orders"], "may read, enqueue", "work, administrate"),
        ("work", [], "may read, work", "enqueue, administrate"),
    ],
)
def test_it_says_what_a_key_may_do(
    client: SpooledClient,
    server: ServerProcess,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    queues: list[str],
    may: str,
    not_: str,
) -> None:
    request = CreateKeyRequest(name=role, role=role, queues=queues)
    made = client.connection.unary(methods_of(KEY_SERVICE)["CreateKey"], request, repeatable=False)
    monkeypatch.setenv("SPOOLED_API_KEY", made.secret)
    code, steps = diagnosed("--address", server.address)
    assert code == 0
    assert steps["permissions"]["text"] == may
    assert not_ in steps["permissions"]["advice"]
    assert steps["extension"]["state"] == "ok"


def test_a_plain_server_is_no_fault_and_said_to_be_one(plain_server: ServerProcess) -> None:
    code, steps = diagnosed("--address", plain_server.address)
    assert code == 0
    assert steps["extension"]["state"] == "warning"
    assert "plain" in steps["extension"]["text"]
    assert steps["clock"]["state"] == "skipped"


def test_a_file_has_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPOOLED_API_KEY")
    code, steps = diagnosed("--address", f"embedded:{tmp_path / 'jobs.db'}")
    assert code == 0
    assert steps["network"]["state"] == "skipped"


def test_a_clock_that_differs_is_told_with_by_how_much(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead:
        """This machine's clock, an hour ahead."""

        perf_counter = staticmethod(time.perf_counter)

        @staticmethod
        def time() -> float:
            return time.time() + 3600

    monkeypatch.setattr(doctor_checks, "time", Ahead)
    code, steps = diagnosed("--address", server.address)
    assert code == 0
    assert steps["clock"]["state"] == "warning"
    assert "behind this machine's" in steps["clock"]["text"]
    assert "3,6" in steps["clock"]["text"] or "3,59" in steps["clock"]["text"]


def test_certificates_are_looked_at(
    start_server: Callable[..., ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate("localhost")
    certificate.write(tmp_path / "cert.pem", tmp_path / "key.pem")
    make_certificate("elsewhere").write(tmp_path / "other.pem", tmp_path / "other-key.pem")
    server = start_server(
        *("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    )
    monkeypatch.setenv("SPOOLED_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text(
        f'[profiles.right]\naddress = "localhost:{server.port}"\ntls_ca = "cert.pem"\n'
        f'[profiles.stranger]\naddress = "localhost:{server.port}"\ntls_ca = "other.pem"\n'
        f'[profiles.plain]\naddress = "localhost:{server.port}"\ntls = false\n'
    )
    code, steps = diagnosed("--profile", "right")
    assert code == 0, steps
    # It is one for a day.
    assert steps["TLS"]["state"] == "warning"
    assert "another" in steps["TLS"]["text"]
    code, steps = diagnosed("--profile", "stranger")
    assert (code, list(steps)[-1]) == (3, "TLS")
    assert "not trusted" in steps["TLS"]["text"]
    code, steps = diagnosed("--profile", "plain")
    assert (code, list(steps)[-1]) == (3, "TLS")
    assert "seems to expect TLS" in steps["TLS"]["text"]


def test_a_server_without_tls_is_no_place_for_a_handshake(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLED_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text(
        f'[profiles.wrong]\naddress = "{server.address}"\ntls = true\n'
    )
    code, steps = diagnosed("--profile", "wrong")
    assert (code, list(steps)[-1]) == (3, "TLS")
    assert "tls = false" in steps["TLS"]["advice"]
