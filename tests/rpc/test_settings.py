import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any, cast

import pytest

from spooled_pipelines.errors import AuthenticationError, InvalidArgumentError
from spooled_pipelines.rpc.channel import channel_credentials, channel_options
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.rpc.settings import TLS, ConnectionSettings
from spooled_pipelines.wire import limits

KEY = "sp_live_secret0123456789"


def test_the_key_is_in_no_representation() -> None:
    settings = ConnectionSettings(
        "localhost:1",
        api_key=KEY,
        tls=TLS(ca=b"-----BEGIN", client_certificate=b"shh-cert", client_key=b"shh-key"),
    )
    for text in (repr(settings), str(settings), f"{settings}"):
        assert KEY not in text
        assert "shh" not in text


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        ConnectionSettings("localhost:1", api_key=KEY).address = "x"


@pytest.mark.parametrize(
    ("address", "tls", "secure"),
    [
        ("localhost:1", None, False),
        ("127.0.0.1:1", None, False),
        ("[::1]:1", None, False),
        ("unix:/run/spooled.sock", None, False),
        ("queue.example.org:1", None, True),
        ("10.0.0.1:1", None, True),
        ("grpc.spooled.cloud", None, True),
        ("localhost:1", True, True),
        ("queue.example.org:1", False, False),
        ("localhost:1", TLS(server_name="x"), True),
    ],
)
def test_tls_is_on_except_to_this_machine(
    address: str, tls: TLS | bool | None, secure: bool
) -> None:
    settings = ConnectionSettings(address, api_key=KEY, tls=tls)
    assert (settings.tls_material is not None) == secure
    assert (channel_credentials(settings) is not None) == secure


def test_keepalive_is_as_the_grpc_guide_has_it() -> None:
    options = dict(channel_options(ConnectionSettings("localhost:1", api_key=KEY)))
    assert options["grpc.keepalive_time_ms"] == 30_000
    assert options["grpc.keepalive_timeout_ms"] == 10_000
    assert options["grpc.keepalive_permit_without_calls"] == 1
    assert options["grpc.http2.min_time_between_pings_ms"] == 10_000


def test_a_key_is_trimmed() -> None:
    assert ConnectionSettings("localhost:1", api_key=f" {KEY}\n").api_key == KEY


@pytest.mark.parametrize("key", ["", "  \n", f"{KEY}\nx", f"“{KEY}”", f"{KEY} {KEY}"])
def test_what_cannot_be_a_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        ConnectionSettings("localhost:1", api_key=key, api_key_source="SPOOLED_API_KEY")
    assert "SPOOLED_API_KEY" in caught.value.message
    assert KEY not in caught.value.message


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds must be more than 0, got 0"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds must be more than 0, got nan"),
        ({"batch_extension": "maybe"}, "batch_extension must be one of auto, on, off, got 'maybe'"),
        ({"address": "localhost:x"}, "the port must be a number from 1 to 65535, got 'x'"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_said(change: dict[str, Any], why: str) -> None:
    settings = ConnectionSettings("localhost:1", api_key=KEY)
    with pytest.raises(InvalidArgumentError) as caught:
        replace(settings, **change)
    assert why in caught.value.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 0),
        ("initial_seconds", -1),
        ("max_seconds", -0.1),
        ("multiplier", 0.5),
        ("jitter", 1.1),
        ("jitter", float("nan")),
    ],
)
def test_a_retry_policy_that_makes_no_sense_is_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        RetryPolicy(**cast("dict[str, Any]", {field: value}))
    assert f"{field} must be" in caught.value.message
    assert f"got {value!r}" in caught.value.message


def test_a_client_certificate_needs_its_key() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        TLS(client_certificate=b"-----BEGIN CERTIFICATE-----")
    assert "client_key is missing" in caught.value.message


def test_a_missing_tls_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    settings = ConnectionSettings("localhost:1", api_key=KEY, tls=TLS(ca=missing))
    with pytest.raises(InvalidArgumentError) as caught:
        channel_credentials(settings)
    assert str(missing) in caught.value.message


def test_a_tls_file_without_pem_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "ca.pem"
    wrong.write_bytes(b"\x30\x82")
    settings = ConnectionSettings("localhost:1", api_key=KEY, tls=TLS(ca=str(wrong)))
    with pytest.raises(InvalidArgumentError) as caught:
        channel_credentials(settings)
    assert str(wrong) in caught.value.message


def test_an_answer_may_be_as_large_as_the_contract_lets_it_be() -> None:
    options = dict(channel_options(ConnectionSettings("localhost:1", api_key=KEY)))
    jobs = limits.DEQUEUE_MAX * limits.PAYLOAD_MAX_BYTES
    # Numbers in a list take four bytes of JSON each, and eleven of a Struct.
    assert jobs * 11 / 4 < cast("int", options["grpc.max_receive_message_length"]) < 1 << 29


@pytest.mark.parametrize("address", ["dns:///queue.example.org", "10.0.0.1:1,10.0.0.2:1"])
def test_calls_are_spread_over_all_healthy_servers_that_an_address_names(address: str) -> None:
    options = dict(channel_options(ConnectionSettings(address, api_key=KEY)))
    config = json.loads(str(options["grpc.service_config"]))
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["healthCheckConfig"] == {"serviceName": ""}


def test_calls_stay_with_the_one_server_that_an_address_names() -> None:
    options = dict(channel_options(ConnectionSettings("localhost:1", api_key=KEY)))
    assert "grpc.service_config" not in options
