"""Airflow finds the provider, builds its connection form, and pays next to nothing for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import airflow
import jsonschema
import pytest

from spooled_pipelines.airflow.platform.versions import VERSION
from spooled_pipelines.airflow.provider_info import get_provider_info
from tests.support.airflow_versions import runtime_hooks


def test_airflow_lists_the_provider_without_a_complaint() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "airflow", "providers", "list", "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    names = [provider["package_name"] for provider in json.loads(listed.stdout.splitlines()[-1])]
    assert "spooled-pipelines" in names
    assert "spooled" not in listed.stderr


def test_the_provider_info_is_what_airflow_asks_for() -> None:
    path = Path(airflow.__file__).parent / "provider_info.schema.json"
    jsonschema.validate(get_provider_info(), json.loads(path.read_text()))


def test_the_connection_form_follows_airflows_schema_for_fields() -> None:
    path = Path(airflow.__file__).parent / "provider.yaml.schema.json"
    items = json.loads(path.read_text())["properties"]["connection-types"]["items"]
    for connection in get_provider_info()["connection-types"]:
        jsonschema.validate(connection, items)


def test_the_hook_is_known_by_its_connection_type_with_labels_and_fields() -> None:
    from airflow.providers_manager import ProvidersManager

    hook = runtime_hooks()["spooled"]
    assert hook is not None
    manager = ProvidersManager()
    assert hook.hook_name == "Spooled"
    if VERSION < (3, 2):
        # The form is what any connection's is: the settings go into the extra, as JSON.
        return
    assert manager.field_behaviours["spooled"]["relabeling"] == {"password": "API key"}
    shown = {
        name.removeprefix("extra__spooled__")
        for name in manager.connection_form_widgets
        if name.startswith("extra__spooled__")
    }
    assert shown == {
        *("tls", "ca", "client_certificate", "private_key", "server_name"),
        *("organization", "batch_extension", "timeout_seconds", "page"),
    }


def test_every_module_the_provider_names_can_be_imported() -> None:
    from importlib import import_module

    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                import_module(module)


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        (
            "from spooled_pipelines.airflow.provider_info import get_provider_info as f; f()",
            ("airflow", "grpc", "google.protobuf", "pandas", "pyarrow"),
        ),
        ("import spooled_pipelines.airflow", ("airflow", "grpc", "pandas", "pyarrow")),
        (
            "from spooled_pipelines.airflow import *",
            ("grpc", "pandas", "pyarrow"),
        ),
        ("import spooled_pipelines.airflow.triggers", ("grpc", "pandas", "pyarrow")),
    ],
)
def test_what_is_heavy_is_not_loaded_before_it_is_used(
    statement: str, forbidden: tuple[str, ...]
) -> None:
    check = f"import sys; {statement}; print(*[m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_public_names_are_those_listed() -> None:
    import spooled_pipelines.airflow as provider

    assert provider.__all__ == [
        *("BatchDoneTrigger", "BatchResultsOperator", "DeadLettersTrigger", "EnqueueBatchOperator"),
        *("SpooledHook", "SpooledWorkOperator", "StreamJobsSensor", "enqueue_batch"),
    ]
    for name in provider.__all__:
        assert getattr(provider, name).__name__ == name
    with pytest.raises(AttributeError, match="NoSuchThing"):
        _ = provider.NoSuchThing
