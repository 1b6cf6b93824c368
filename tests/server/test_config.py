"""What `serve` is told: which source wins, what is refused and how, and what is never shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import typer

from spooled_pipelines.cli.app import app
from spooled_pipelines.server.config.loading import Config, ConfigError, load
from spooled_pipelines.server.config.options import OPTIONS
from spooled_pipelines.server.config.settings import OrganizationLimits, ServerSettings
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support import forked
from tests.support.certificates import make_certificate
from tests.support.cli import command
from tests.support.wire import Wire, method_named

SECRET = "sp_live_never_to_be_seen"
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> str:
        path = tmp_path / "spooled.toml"
        path.write_text(text)
        return str(path)

    return write_file


def refused(flags: dict[str, object], environment: dict[str, str], path: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(flags, environment, path)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def shown(config: Config) -> str:
    text = "\n".join(config.lines())
    assert SECRET not in text + repr(config)
    return text


def test_without_anything_the_defaults_hold() -> None:
    assert load({}, {}).settings == ServerSettings()


def test_flags_go_before_the_environment_before_the_file(write: Write) -> None:
    path = write("listen = '0.0.0.0:2'\ngrace_seconds = 1\ndaily_quota = 1\nmetrics = 'x:1'\n")
    environment = {
        "SPOOLED_SERVER_CONFIG": path,
        "SPOOLED_SERVER_GRACE_SECONDS": "2m",
        "SPOOLED_SERVER_DAILY_QUOTA": "2",
        "SPOOLED_SERVER_REQUIRE_LEASE_ID": "true",
    }
    config = load({"daily_quota": "3", "require_lease_id": False}, environment)
    settings = config.settings
    assert (settings.listen, settings.grace_seconds, settings.daily_quota) == ("0.0.0.0:2", 120, 3)
    assert (settings.metrics, settings.require_lease_id) == ("x:1", False)
    text = shown(config)
    for line in (
        f'listen = "0.0.0.0:2"  # {path}',
        "grace_seconds = 120.0  # SPOOLED_SERVER_GRACE_SECONDS",
        "daily_quota = 3  # --daily-quota",
        "require_lease_id = false  # --require-lease-id",
        "# tls_cert is not set  # default",
    ):
        assert line in text.splitlines()


def test_a_path_that_is_given_goes_before_the_one_of_the_environment(write: Write) -> None:
    path = write("listen = 'here:1'")
    config = load({}, {"SPOOLED_SERVER_CONFIG": "/nowhere"}, path)
    assert config.settings.listen == "here:1"


def test_an_organization_has_its_own_limits_and_else_those_of_all(write: Write) -> None:
    path = write(
        """
        rate_limit = 10
        daily_quota = 1000
        [organizations.acme]
        daily_quota = "unlimited"
        [organizations."big.one"]
        rate_limit = 0.5
        daily_quota = 0
        """
    )
    config = load({}, {}, path)
    assert config.settings.organizations == {
        "acme": OrganizationLimits(10, None),
        "big.one": OrganizationLimits(0.5, 0),
    }
    # What is shown is a config file that says the same.
    again = load({}, {}, write(shown(config)))
    assert again.settings.organizations == config.settings.organizations
    assert again.settings.quotas == config.settings.quotas


def test_unlimited_takes_back_what_a_weaker_source_says(write: Write) -> None:
    path = write("rate_limit = 10\ndaily_quota = 10")
    config = load({"rate_limit": "unlimited"}, {"SPOOLED_SERVER_DAILY_QUOTA": "unlimited"}, path)
    assert (config.settings.rate_limit, config.settings.daily_quota) == (None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listne = 'x'", "there is no setting listne; did you mean listen?"),
        ("[organizations.a]\nquota = 1", "there is no setting organizations.a.quota; did you mean"),
        ("colour = 1", "known are listen, store"),
        ("daily_quota = 'many'", "daily_quota must be a valid integer, got 'many'"),
        ("daily_quota = '8'", "daily_quota must be a valid integer, got '8'"),
        ("daily_quota = 1.5", "daily_quota must be a valid integer, got 1.5"),
        ("daily_quota = -1", "daily_quota must be greater than or equal to 0, got -1"),
        ("rate_limit = 0", "rate_limit must be greater than 0, got 0"),
        ("rate_limit = nan", "rate_limit must be a finite number, got nan"),
        ("require_lease_id = 'yes'", "require_lease_id must be a valid boolean, got 'yes'"),
        ("listen = 50051", "listen must be a valid string, got 50051"),
        ("keep_settled = 'a week'", "keep_settled: 'a week' is not a duration; write"),
        ("keep_settled = '30'", "keep_settled: '30' is not a duration; write 90s"),
        ("log_level = 'loud'", "log_level must be 'debug', 'info', 'warning' or 'error'"),
        ("organizations = 3", "organizations must be a table, got 3"),
        ("[organizations]\nacme = 3", "organizations.acme must be a table, got 3"),
        (
            "[organizations.acme]\nrate_limit = -1",
            "organizations.acme.rate_limit must be greater than 0, got -1",
        ),
        (f"api_key = [3, '{SECRET}']", "api_key.0 must be a valid string"),
        (f"store = ['{SECRET}']", "store must be a valid string"),
        (f"api_keys = ['{SECRET}']", "there is no setting api_keys; did you mean api_key?"),
        (f"api_key = ['{SECRET}'", "is not TOML"),
        ("max_streams = 1\nlisten = here", "is not TOML: Invalid value (at line 2"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_its_name_key_and_value(
    write: Write, text: str, said: str
) -> None:
    path = write(text)
    message = refused({}, {}, path)
    assert message.startswith(f"{path}: ")
    assert said in message


def test_everything_that_is_wrong_in_one_place_is_said_at_once(write: Write) -> None:
    message = refused({}, {}, write("listen = 1\nmax_streams = 'x'\nlog_format = 'xml'"))
    assert all(name in message for name in ("got 1;", "got 'x'", "'xml'"))


def test_variables_that_are_wrong_are_refused_by_name() -> None:
    message = refused({}, {"SPOOLED_SERVER_DAILY_QUOTA": "many"})
    assert message.startswith("SPOOLED_SERVER_DAILY_QUOTA must be a valid integer, got 'many'")
    message = refused({}, {"SPOOLED_SERVER_DAYLY_QUOTA": "8"})
    assert "SPOOLED_SERVER_DAYLY_QUOTA: there is no such setting" in message
    assert "did you mean SPOOLED_SERVER_DAILY_QUOTA?" in message
    assert "--max-streams must be" in refused({"max_streams": "x"}, {})
    # What Kubernetes sets for a service of this name is not meant for us.
    kubernetes = {"SPOOLED_SERVER_SERVICE_HOST": "10.0.0.1", "SPOOLED_SERVER_PORT": "tcp://x:1"}
    assert load({}, kubernetes).settings == ServerSettings()
    # Empty is as good as not there.
    assert load({}, {"SPOOLED_SERVER_DAILY_QUOTA": ""}).settings == ServerSettings()


@pytest.mark.parametrize(
    ("flags", "text", "said"),
    [
        ({"tls_cert": "a.pem"}, "", "tls_cert and tls_key go together"),
        ({"tls_client_ca": "a.pem"}, "", "tls_client_ca needs tls_cert and tls_key"),
        ({"keep_keys": "1d"}, "keep_settled = '2d'", "at least as long"),
        ({}, "max_streams = 0", "max_streams must be 1 to"),
        ({}, "grace_seconds = -1", "grace_seconds must be 0 to 86400, got -1"),
        ({}, "wrong_keys_per_minute = 0", "wrong_keys_per_minute must be 1 or more, got 0"),
    ],
)
def test_what_contradicts_is_refused_with_where_it_is_from(
    write: Write, flags: dict[str, object], text: str, said: str
) -> None:
    path = write(text)
    message = refused(flags, {}, path)
    assert said in message
    for name in flags:
        if name in message:
            assert f"{name} is from --{name.replace('_', '-')}" in message
    if not flags:
        assert f"is from {path}" in message


def test_a_file_that_is_not_there_is_refused() -> None:
    assert "/nowhere.toml: the config file cannot be read: No such" in refused(
        {}, {}, "/nowhere.toml"
    )


def test_secrets_may_be_in_files_of_their_own(tmp_path: Path, write: Write) -> None:
    keys, store = tmp_path / "keys", tmp_path / "store"
    keys.write_text(f"{SECRET}\nsp_live_the_second\n")
    store.write_text(f"postgresql://me:{SECRET}@db/jobs\n")
    path = write(f"api_key_file = '{keys}'\n")
    config = load({}, {"SPOOLED_SERVER_STORE_FILE": str(store)}, path)
    assert len(config.settings.hashed_keys) == 2
    assert config.settings.store == f"postgresql://me:{SECRET}@db/jobs"
    text = shown(config)
    assert f'api_key = ["(hidden)", "(hidden)"]  # {keys}, named by {path}' in text
    assert f'store = "postgresql://db/jobs"  # {store}, named by SPOOLED_SERVER_STORE_FILE' in text
    # A stronger source takes their place, whichever way it says it.
    config = load(
        {"api_key": ["sp_live_another_one"]}, {"SPOOLED_SERVER_STORE": "sqlite:///x"}, path
    )
    assert (len(config.settings.hashed_keys), config.settings.store) == (1, "sqlite:///x")


def test_a_secret_file_that_says_nothing_is_refused(tmp_path: Path, write: Write) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    assert "which is empty" in refused({"api_key_file": str(empty)}, {})
    message = refused({}, {}, write("store_file = '/nowhere'"))
    assert "store_file is '/nowhere', which cannot be read: No such file" in message
    both = {"SPOOLED_SERVER_API_KEY": SECRET, "SPOOLED_SERVER_API_KEY_FILE": str(empty)}
    assert "api_key and api_key_file say the same thing" in refused({}, both)


def test_keys_of_the_environment() -> None:
    keys = {"SPOOLED_SERVER_API_KEY": f"{SECRET} {SECRET}2", "SPOOLED_API_KEY": f"{SECRET}3"}
    config = load({}, keys)
    assert len(config.settings.hashed_keys) == 2
    assert "SPOOLED_SERVER_API_KEY" in shown(config)
    del keys["SPOOLED_SERVER_API_KEY"]
    assert len(load({}, keys).settings.hashed_keys) == 1


def test_every_setting_has_a_flag_and_every_flag_is_a_setting() -> None:
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    flags = {option: p for p in command.params for option in p.opts}
    others = {"--config", "--json", "--print-config", "--help"}
    assert set(flags) - others == {option.flag for option in OPTIONS.values()}
    # The defaults that the help shows are those that hold.
    config = load({}, {})
    for name, option in OPTIONS.items():
        told, holds = flags[option.flag].show_default, config.values[name]
        holds = getattr(holds, "get_secret_value", lambda holds=holds: holds)()
        if isinstance(told, str) and holds is not None:
            assert told in (str(holds), f"{holds:g}" if isinstance(holds, float) else "")


def spooled_serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spooled_pipelines.cli.main", "serve", *arguments]
    return forked.run(
        command,
        env={**os.environ, **environment},
        timeout=60,
    )


def test_the_command_shows_its_config_and_refuses_a_wrong_one(tmp_path: Path, write: Write) -> None:
    path = write(f"daily_quota = 8\napi_key = ['{SECRET}']\n")
    ended = spooled_serve("--print-config", "--config", path, SPOOLED_SERVER_LOG_LEVEL="info")
    assert ended.returncode == 0, ended.stderr
    assert f"daily_quota = 8  # {path}" in ended.stdout
    assert 'log_level = "info"  # SPOOLED_SERVER_LOG_LEVEL' in ended.stdout
    assert SECRET not in ended.stdout + ended.stderr
    ended = spooled_serve("--config", write(f"store = ['{SECRET}']\ndaily_quota = 'x'"))
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "daily_quota must be a valid integer, got 'x'" in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


def test_a_server_runs_as_its_file_says(tmp_path: Path, write: Write) -> None:
    """TLS, a key from a file, and a quota of the key's organization."""
    certificate, key = make_certificate(), tmp_path / "key"
    certificate.write(tmp_path / "cert.pem", tmp_path / "cert.key")
    key.write_text(SECRET)
    path = write(
        f"""
        listen = "localhost:0"
        store = "sqlite:///{tmp_path / "jobs.db"}"
        api_key_file = "{key}"
        tls_cert = "{tmp_path / "cert.pem"}"
        tls_key = "{tmp_path / "cert.key"}"
        [organizations.default]
        daily_quota = 1
        """
    )
    command = [sys.executable, "-m", "spooled_pipelines.cli.main", "serve", "--config", path]
    process = forked.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip().removeprefix("listening on ")
        credentials = grpc.ssl_channel_credentials(certificate.pem)
        with grpc.secure_channel(address, credentials) as channel:
            enqueue = channel.unary_unary(method_named("Enqueue").path)
            request = spooled.EnqueueRequest(queue_name="q").SerializeToString()
            metadata = (("x-api-key", SECRET),)
            enqueue(request, metadata=metadata, timeout=10)
            with pytest.raises(grpc.RpcError, match=r"limit reached \(1/1\)"):
                enqueue(request, metadata=metadata, timeout=10)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert all("INFO spooled_pipelines.server.operator: " in line for line in said.splitlines())


PAGE = Path(__file__).parents[2] / "docs" / "server.md"


def test_the_docs_have_every_setting_with_its_names_and_its_default() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    told = {row[0].strip("|` "): [cell.strip("` ") for cell in row[1:4]] for row in rows}
    for name, option in OPTIONS.items():
        assert told[name] == [option.flag, option.variable, option.shown_default]


def test_the_file_in_the_docs_is_complete_and_loads(tmp_path: Path, write: Write) -> None:
    text = PAGE.read_text().partition("```toml\n")[2].partition("```")[0]
    for name, secret in (("store", "postgresql://spooled:x@db/spooled"), ("admin-key", SECRET)):
        (tmp_path / name).write_text(secret)
        text = text.replace(f"/run/secrets/spooled-{name}", str(tmp_path / name))
    config = load({}, {}, write(text))
    assert set(config.origins) == {*OPTIONS, "organizations"} - {"store_file", "api_key_file"}
    assert config.settings.organizations == {
        "acme": OrganizationLimits(500, None),
        "trial": OrganizationLimits(100, 1000),
    }


KEYED = ("--api-key", "sp_test_of_16_characters")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*KEYED, "--listen", "0.0.0.0"), "listen address must be HOST:PORT"),
        ((*KEYED, "--store", "mysql://x/y"), "a store must be sqlite:///PATH or postgresql"),
        ((*KEYED, "--tls-cert", "no.pem", "--tls-key", "no.key"), "no.pem"),
        ((*KEYED, "--listen", "localhost:9464", "--metrics", "localhost:9464"), "the same port"),
        ((*KEYED, "--listen", "localhost:9464", "--http", "0.0.0.0:9464"), "the same port, 9464"),
        (("--store", "sqlite:///nowhere.db"), "the server needs an API key"),
    ],
)
def test_print_config_finds_what_serve_would_refuse(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown, served = command("serve", "--print-config", *arguments), command("serve", *arguments)
    assert (shown.code, served.code) == (2, 2)
    for done in (shown, served):
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.db"))


def test_print_config_is_json_for_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("serve", "--print-config", "--json", *KEYED, "--listen", "localhost:1")
    assert done.code == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["listen"] == {"value": "localhost:1", "from": "--listen"}
    assert shown["api_key"]["value"] == ["(hidden)"]


async def test_a_server_without_health_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "grpc_health.v1", None)
    async with Wire(tmp_path):
        assert "pip install 'spooled-pipelines[server]'" in caplog.text
