"""Servers by name: the file holds where they are and where their keys are, and never a key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from spooled_pipelines import SpooledClient
from spooled_pipelines.cli.options import Server
from tests.support.cli import command
from tests.support.server_process import ServerProcess

SECRET = "sp_live_secret_that_nobody_may_see"
BACKEND = """
import keyring.backend


class Backend(keyring.backend.KeyringBackend):
    priority = 1

    def get_password(self, service, username):
        return KEYS.get((service, username))

    def set_password(self, service, username, password):
        raise NotImplementedError


KEYS = {("spooled-pipelines", "kept"): %r}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the file where the command looks for it by default."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spooled-pipelines").mkdir()

    def write(text: str) -> Path:
        path = tmp_path / "spooled-pipelines" / "config.toml"
        path.write_text(text)
        return path

    return write


def test_a_profile_names_the_server_and_the_variable_of_its_key(
    config: Callable[[str], Path],
    server: ServerProcess,
    client: SpooledClient,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config(
        'default_profile = "other"\n'
        f'[profiles.dev]\naddress = "{server.address}"\napi_key_env = "DEV_KEY"\n'
        '[profiles.other]\naddress = "127.0.0.1:1"\n'
    )
    client.enqueue(queue, {})
    asked = ("stats", queue, "--json")
    missing = command(*asked, "--profile", "dev")
    assert missing.code == 4
    assert "DEV_KEY" in missing.stderr
    monkeypatch.setenv("DEV_KEY", server.api_key)
    assert json.loads(command(*asked, "--profile", "dev").stdout)["pending"] == 1
    monkeypatch.setenv("SPOOLED_PROFILE", "dev")
    assert json.loads(command(*asked).stdout)["pending"] == 1
    monkeypatch.delenv("SPOOLED_PROFILE")
    # The file's default holds, and takes its key from where all of them are.
    assert "SPOOLED_API_KEY" in command(*asked).stderr
    monkeypatch.setenv("SPOOLED_API_KEY", "sp_test_any")
    assert command(*asked).code == 3
    # What names a server more directly goes before it, and gets no key of a profile.
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", server.address)
    assert command(*asked).code == 4
    assert command(*asked, "--profile", "dev").code == 0


def test_an_error_says_which_key_was_wrong_and_not_what_it_is(
    config: Callable[[str], Path], server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    config(f'[profiles.dev]\naddress = "{server.address}"\napi_key_env = "DEV_KEY"\n')
    monkeypatch.setenv("DEV_KEY", SECRET)
    done = command("stats", "q", "--profile", "dev")
    assert done.code == 4
    assert "DEV_KEY (profile dev)" in done.stderr
    assert SECRET not in done.stderr


def test_a_key_is_found_in_the_keyring(
    config: Callable[[str], Path],
    server: ServerProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import keyring

    (tmp_path / "ring_of_tests.py").write_text(BACKEND % server.api_key)
    monkeypatch.syspath_prepend(tmp_path)
    from importlib import import_module

    before = keyring.get_keyring()
    keyring.set_keyring(import_module("ring_of_tests").Backend())
    try:
        config(
            f'[profiles.kept]\naddress = "{server.address}"\napi_key_keyring = true\n'
            f'[profiles.forgotten]\naddress = "{server.address}"\napi_key_keyring = true\n'
        )
        assert command("queues", "list", "--profile", "kept").code == 0
        forgotten = command("stats", "q", "--profile", "forgotten")
        assert forgotten.code == 4
        assert "keyring set spooled-pipelines forgotten" in forgotten.stderr
    finally:
        keyring.set_keyring(before)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'[profiles.a]\naddress = "h:1"\napi_key = "{SECRET}"\n', "api_key_env"),
        ('[profiles.a]\nadress = "h:1"\n', "adress"),
        ("[profiles.a]\ntls = true\n", "address must be set"),
        ("[profiles.a]\naddress = 7\n", "must be text"),
        ('[profiles.a]\naddress = "h:1"\ntls = "yes"\n', "true or false"),
        (
            '[profiles.a]\naddress = "h:1"\napi_key_env = "A"\napi_key_keyring = true\n',
            "cannot both be set",
        ),
        ("profiles = 3\n", "tables"),
        ("[profiles]\na = 3\n", "[profiles.a]"),
        ("profile = 3\n", "profile is not known"),
        ("[profiles.a\n", "not TOML"),
        ('[profiles.b]\naddress = "h:1"\n', "known: b"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_its_path_and_without_its_keys(
    config: Callable[[str], Path], text: str, said: str
) -> None:
    path = config(text)
    done = command("stats", "q", "--profile", "a")
    assert (done.code, done.stdout) == (2, "")
    assert said in done.stderr
    assert str(path) in done.stderr
    assert SECRET not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_asked_for_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLED_CONFIG", "/nowhere/config.toml")
    done = command("stats", "q")
    assert done.code == 2
    assert "/nowhere/config.toml" in done.stderr


def test_one_server_is_named_in_one_way(config: Callable[[str], Path]) -> None:
    config('[profiles.a]\naddress = "h:1"\n')
    done = command("stats", "q", "--profile", "a", "--address", "h:2")
    assert done.code == 2
    assert "--address" in done.stderr


def test_profiles_are_listed_with_the_place_of_their_key(
    config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no profiles" in command("profiles").stdout
    config(
        'default_profile = "here"\n'
        '[profiles.here]\naddress = "embedded:jobs.db"\n'
        '[profiles.far]\naddress = "far:443"\napi_key_env = "FAR_KEY"\n'
    )
    monkeypatch.setenv("FAR_KEY", SECRET)
    shown = command("profiles").stdout
    assert "* here" in shown
    assert "FAR_KEY" in shown
    assert SECRET not in shown
    listed = json.loads(command("profiles", "--json").stdout)
    assert listed["default"] == "here"
    assert listed["profiles"]["here"]["key"] is None
    assert "FAR_KEY" in listed["profiles"]["far"]["key"]


def test_a_profile_may_be_a_file_with_no_server_to_start(
    config: Callable[[str], Path], tmp_path: Path
) -> None:
    config('default_profile = "here"\n[profiles.here]\naddress = "embedded:jobs.db"\n')
    assert command("queues", "list").code == 0
    assert (tmp_path / "jobs.db").exists()


def test_a_limit_of_calls_holds_whatever_names_the_server(
    config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config(
        '[profiles.far]\naddress = "127.0.0.1:1"\napi_key_env = "FAR_KEY"\n'
        '[profiles.file]\naddress = "embedded:own.db"\n'
    )
    monkeypatch.setenv("FAR_KEY", "sp_test_far")
    for address, key, profile in (
        ("127.0.0.1:1", "sp_test_any", None),
        (None, None, "far"),
        (None, None, "file"),
    ):
        with Server(address, key, profile).connect(rate_limit=7) as client:
            assert client.settings.rate_limit == 7
