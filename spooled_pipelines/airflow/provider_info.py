"""The provider's description of itself, for Airflow.

Every Airflow command calls this, so the module imports nothing: an exception here would break
them all. The connection form of the UI is built from ``conn-fields`` and ``ui-field-behaviour``.
"""

from __future__ import annotations

from typing import Any

NAME = "Spooled"
CONFIG_SECTION = "spooled"
GUIDES = ["/docs/airflow.md", "/docs/airflow-enqueue.md", "/docs/airflow-wait.md"]
CONFIG_OPTIONS: dict[str, dict[str, Any]] = {
    "cancel_on_kill": {
        "description": "Whether a task that enqueued a batch and is marked failed or success "
        "cancels the jobs that have not started, where the task itself does not say.",
        "version_added": "0.1.0",
        "type": "boolean",
        "example": None,
        "default": "True",
    },
    "queue_poll_seconds": {
        "description": "Seconds between two looks at a queue that a task waits for. All tasks of a "
        "triggerer that wait for the same queue share them.",
        "version_added": "0.1.0",
        "type": "float",
        "example": None,
        "default": "2.0",
    },
    "xcom_rows_max": {
        "description": "How many rows of results a task may return through XCom.",
        "version_added": "0.1.0",
        "type": "integer",
        "example": None,
        "default": "1000",
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, in the shape of Airflow's provider_info schema."""
    return {
        "package-name": "spooled-pipelines",
        "name": NAME,
        "description": "Operators that turn tables into jobs of the Spooled job queue, and a "
        "sensor that waits until they are done.",
        "integrations": [{"integration-name": NAME, "how-to-guide": GUIDES, "tags": ["service"]}],
        "hooks": _modules("spooled_pipelines.airflow.hooks"),
        "operators": _modules("spooled_pipelines.airflow.operators"),
        "sensors": _modules("spooled_pipelines.airflow.sensors"),
        "triggers": _modules("spooled_pipelines.airflow.triggers"),
        "extra-links": [
            "spooled_pipelines.airflow.links.BatchLink",
            "spooled_pipelines.airflow.links.QueueLink",
        ],
        "task-decorators": [
            {
                "name": "enqueue_batch",
                "class-name": "spooled_pipelines.airflow.decorators.enqueue_batch",
                "path": "spooled_pipelines.airflow.decorators.enqueue_batch",
            }
        ],
        "asset-uris": [{"schemes": ["spooled"], "handler": None}],
        "config": {
            CONFIG_SECTION: {
                "description": "Tasks that enqueue tables into Spooled and wait for the jobs.",
                "options": CONFIG_OPTIONS,
            }
        },
        "connection-types": [
            {
                "connection-type": "spooled",
                "hook-class-name": "spooled_pipelines.airflow.hooks.SpooledHook",
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
    return {
        "tls": _choice("TLS", "auto: on, except to localhost."),
        "ca": _text(
            "CA certificates",
            "The authorities to trust instead of the system's: PEM, or the path of a file such as "
            "/etc/ssl/spooled-ca.pem.",
        ),
        "client_certificate": _text(
            "Client certificate",
            "Only for servers that ask for one: PEM, or the path of a file.",
        ),
        "private_key": _text(
            "Private key",
            "The client certificate's: PEM, or the path of a file.",
            secret=True,
        ),
        "server_name": _text(
            "Server name",
            "The name in the server's certificate, where it differs from the host.",
        ),
        "organization": _text(
            "Organization",
            "The one that the key must be for: a key of another is refused. Empty: any.",
        ),
        "batch_extension": _choice(
            "Batch extension",
            "auto asks the server once; off does without it, as for Spooled Cloud.",
        ),
        "timeout_seconds": {
            "label": "Deadline",
            "description": "Seconds that one call may take, its retries included.",
            "schema": {
                "type": ["number", "null"],
                "exclusiveMinimum": 0,
                "maximum": 3600,
                "default": 30,
            },
        },
        "page": _text(
            "Status page",
            "The address of the server's page (serve --http), such as https://jobs.example.org, "
            "for links from tasks to their batch.",
        ),
    }


def _choice(label: str, description: str) -> dict[str, Any]:
    schema = {"type": ["string", "null"], "enum": ["auto", "on", "off"], "default": "auto"}
    return {"label": label, "description": description, "schema": schema}


def _text(label: str, description: str, *, secret: bool = False) -> dict[str, Any]:
    # No `examples`: the form would make a chooser of the field.
    schema: dict[str, Any] = {"type": ["string", "null"]}
    if secret:
        schema["format"] = "password"
    return {"label": label, "description": description, "schema": schema}
