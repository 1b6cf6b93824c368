"""What Airflow asks a provider about itself.

Every Airflow command calls this, so the module imports nothing: an exception here would break
them all. The connection form of the UI is built from ``conn-fields`` and ``ui-field-behaviour``.
"""

from __future__ import annotations

from typing import Any

NAME = "Spooled"


def get_provider_info() -> dict[str, Any]:
    """The provider's description, in the shape of Airflow's provider_info schema."""
    return {
        "package-name": "spooled-pipelines",
        "name": NAME,
        "description": "Tables become jobs in the Spooled job queue, and a sensor that waits "
        "until they are done.",
        "integrations": [{"integration-name": NAME, "tags": ["service"]}],
        "hooks": _modules("spooled_pipelines.airflow.hook"),
        "operators": _modules("spooled_pipelines.airflow.operator"),
        "sensors": _modules("spooled_pipelines.airflow.sensor"),
        "triggers": _modules("spooled_pipelines.airflow.triggers"),
        "connection-types": [
            {
                "connection-type": "spooled",
                "hook-class-name": "spooled_pipelines.airflow.hook.SpooledHook",
                "hook-name": NAME,
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "schema", "extra"],
                    "relabeling": {"password": "API key"},
                    "placeholders": {
                        "host": "grpc.spooled.cloud",
                        "port": "443",
                        "password": "sp_live_...",
                    },
                },
                "conn-fields": _connection_fields(),
            }
        ],
    }


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": NAME, "python-modules": list(names)}]


def _connection_fields() -> dict[str, Any]:
    def text(label: str, description: str) -> dict[str, Any]:
        return {
            "label": label,
            "description": description,
            "schema": {"type": ["string", "null"]},
        }

    return {
        "tls": {
            "label": "TLS",
            "description": "auto: on, except to localhost.",
            "schema": {
                "type": ["string", "null"],
                "enum": ["auto", "on", "off"],
                "default": "auto",
            },
        },
        "ca": text(
            "CA certificates",
            "Path of a PEM file with the authorities to trust, where the system's do not do.",
        ),
        "client_certificate": text(
            "Client certificate", "Path of a PEM file; only for servers that ask for one."
        ),
        "client_key": text(
            "Client key", "Path of the PEM file with the client certificate's private key."
        ),
        "server_name": text(
            "Server name", "The name in the server's certificate, where it is not the host."
        ),
    }
