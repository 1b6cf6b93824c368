"""What is in deploy/ is what Kubernetes, Compose and our own commands take.

Checked against Kubernetes' own schemas, which a package brings, without a cluster; and what the
manifests say of us against our own parser, config file and metrics.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml

from spooled_pipelines.cli.app import app
from spooled_pipelines.server.config.loading import load

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
# KEDA's own kind, of which no schema comes with a package: its documented fields.
SCALED_OBJECT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["scaleTargetRef", "triggers"],
    "properties": {
        "scaleTargetRef": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "kind": {}, "apiVersion": {}},
        },
        "pollingInterval": {"type": "integer"},
        "cooldownPeriod": {"type": "integer"},
        "minReplicaCount": {"type": "integer"},
        "maxReplicaCount": {"type": "integer"},
        "fallback": {
            "type": "object",
            "required": ["failureThreshold", "replicas"],
            "additionalProperties": False,
            "properties": {"failureThreshold": {"type": "integer"}, "replicas": {}},
        },
        "triggers": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "metadata"],
                "properties": {
                    "type": {"const": "prometheus"},
                    # KEDA takes texts alone here.
                    "metadata": {
                        "required": ["serverAddress", "query", "threshold"],
                        "additionalProperties": {"type": "string"},
                    },
                },
            },
        },
    },
}
# As is the Prometheus operator's.
SERVICE_MONITOR = {
    "type": "object",
    "additionalProperties": False,
    "required": ["selector", "endpoints"],
    "properties": {
        "selector": {"type": "object", "required": ["matchLabels"]},
        "namespaceSelector": {"type": "object", "required": ["matchNames"]},
        "endpoints": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"port": {"type": "string"}, "interval": {"type": "string"}},
            },
        },
    },
}
OF_OPERATORS = {"ScaledObject": SCALED_OBJECT, "ServiceMonitor": SERVICE_MONITOR}


def manifests(kind: str | None = None) -> Iterator[dict[str, Any]]:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(
        path.name for path in KUBERNETES.iterdir()
    )
    for name in listed:
        for document in yaml.safe_load_all((KUBERNETES / name).read_text()):
            if kind is None or document["kind"] == kind:
                yield document


def named(kind: str, name: str) -> dict[str, Any]:
    return next(one for one in manifests(kind) if one["metadata"]["name"] == name)


@pytest.mark.parametrize("version", ["1.33", kubernetes_validate.latest_version()])
def test_kubernetes_takes_every_manifest(version: str) -> None:
    for document in manifests():
        if document["kind"] in OF_OPERATORS:
            jsonschema.validate(document["spec"], OF_OPERATORS[document["kind"]])
        else:
            kubernetes_validate.validate(document, version, strict=True)


def test_a_manifest_that_is_wrong_would_be_found() -> None:
    wrong = named("Deployment", "spooled-server")
    wrong["spec"]["template"]["spec"]["containers"][0]["port"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.33", strict=True)


def test_every_command_line_is_one_that_we_understand() -> None:
    lines = [
        container["args"]
        for document in manifests("Deployment")
        for container in document["spec"]["template"]["spec"]["containers"]
    ]
    for service in COMPOSE["services"].values():
        lines += [service["command"]] if "command" in service else []
        _, program, *line = service.get("healthcheck", {"test": [None, None]})["test"]
        lines += [line] if program == "spooled-pipelines" else []
    assert len(lines) >= 4
    command = typer.main.get_command(app)
    with command.make_context("spooled-pipelines", [], resilient_parsing=True) as context:
        for line in lines:
            found = cast("Any", command).get_command(context, line[0])
            assert found is not None, line
            found.make_context(line[0], list(line[1:]), parent=context)


def test_the_servers_take_the_config_file_that_they_are_given(tmp_path: Path) -> None:
    text = named("ConfigMap", "spooled-server")["data"]["spooled.toml"]
    secret = named("Secret", "spooled")["stringData"]
    for name in ("store", "admin-key"):
        (tmp_path / name).write_text(secret[name])
    path = tmp_path / "spooled.toml"
    path.write_text(text.replace("/run/secrets/spooled", str(tmp_path)))
    with pytest.raises(ValueError, match="still a placeholder"):
        load({}, {}, str(path))
    (tmp_path / "admin-key").write_text("sp_live_in_place_of_it")
    settings = load({}, {}, str(path)).settings
    assert settings.store == secret["store"]
    assert settings.connections.max_age_seconds == 300


def test_a_pod_has_more_time_to_end_than_what_runs_in_it_takes() -> None:
    server = named("Deployment", "spooled-server")["spec"]["template"]["spec"]
    before = server["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    text = named("ConfigMap", "spooled-server")["data"]["spooled.toml"]
    grace = re.search(r"^grace_seconds = (\d+)$", text, re.MULTILINE)
    assert grace is not None
    assert server["terminationGracePeriodSeconds"] > before + int(grace[1])
    worker = named("Deployment", "orders-worker")["spec"]["template"]["spec"]
    arguments = worker["containers"][0]["args"]
    grace_of_worker = int(arguments[arguments.index("--grace-seconds") + 1])
    assert worker["terminationGracePeriodSeconds"] > grace_of_worker


def test_selectors_select_what_is_there() -> None:
    labels = {
        document["metadata"]["name"]: document["spec"]["template"]["metadata"]["labels"]
        for document in manifests("Deployment")
    }
    for document in (*manifests("Service"), *manifests("PodDisruptionBudget")):
        selector = document["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        assert wanted in labels.values(), document["metadata"]["name"]
    for document in manifests("ScaledObject"):
        target = document["spec"]["scaleTargetRef"]["name"]
        assert target in labels
        # Two that say how many there are would quarrel.
        assert "replicas" not in named("Deployment", target)["spec"]


def test_the_page_is_where_the_servers_say_that_it_is_and_keeps_a_browser_with_one() -> None:
    ingress = named("Ingress", "spooled-page")
    host = ingress["spec"]["rules"][0]["host"]
    text = named("ConfigMap", "spooled-server")["data"]["spooled.toml"]
    assert f'http_public_url = "https://{host}"' in text
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    ports = named("Service", backend["name"])["spec"]["ports"]
    assert backend["port"]["name"] in [port["name"] for port in ports]
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/affinity"] == "cookie"


def test_the_monitor_finds_the_port_of_the_metrics() -> None:
    monitor = named("ServiceMonitor", "spooled")["spec"]
    wanted = monitor["selector"]["matchLabels"]
    ports = [
        port["name"]
        for service in manifests("Service")
        if service["metadata"]["labels"] == wanted
        for port in service["spec"]["ports"]
    ]
    assert ports.count(monitor["endpoints"][0]["port"]) == 1


def test_workers_are_looked_at_by_the_file_that_they_write() -> None:
    worker = named("Deployment", "orders-worker")["spec"]["template"]["spec"]["containers"][0]
    file = worker["args"][worker["args"].index("--health-file") + 1]
    for probe in ("livenessProbe", "readinessProbe"):
        assert file in " ".join(worker[probe]["exec"]["command"])
    in_compose = COMPOSE["services"]["worker"]["command"]
    assert in_compose[in_compose.index("--health-file") + 1] == file
    # What the image's own check looks at; the server of Compose has none, and is asked.
    assert file == "/tmp/health"
    assert "healthcheck" not in COMPOSE["services"]["worker"]


def test_what_the_unit_needs_is_made_before_it_starts() -> None:
    page = (ROOT / "docs" / "howto" / "deploying.md").read_text()
    steps = page.partition("```console\n")[2].partition("```")[0].splitlines()
    start = next(place for place, step in enumerate(steps) if "enable --now" in step)
    settings = page.partition('title="/etc/spooled/spooled.toml"')[2].partition("```")[0]
    unit = (ROOT / "deploy" / "spooled.service").read_text()
    needed = set(re.findall(r"/(?:etc|opt)/spooled[\w./-]*", settings + unit))
    needed = {"/opt/spooled" if path.startswith("/opt") else path for path in needed}
    made: dict[str, int] = {}
    for place, step in enumerate(steps):
        for path in re.findall(r"/(?:etc|opt)/spooled[\w./-]*", step):
            made.setdefault(path, place)
    assert {"/etc/spooled/tls.key", "/etc/spooled/admin-key", "/opt/spooled"} <= needed
    for path in needed:
        assert made[path] < start, path
        parent = path.rpartition("/")[0]
        assert made.get(parent, -1) <= made[path], path
    user = next(place for place, step in enumerate(steps) if "useradd" in step)
    assert all(user < place for place, step in enumerate(steps) if "-g spooled" in step)


def test_scaling_asks_for_a_metric_that_we_have() -> None:
    documented = (ROOT / "docs" / "metrics.md").read_text()
    for document in manifests("ScaledObject"):
        for trigger in document["spec"]["triggers"]:
            asked = re.findall(r"(spooled_\w+)\{", trigger["metadata"]["query"])
            assert asked
            assert all(f"`{name}`" in documented for name in asked)


def test_the_handler_of_compose_is_there() -> None:
    worker = COMPOSE["services"]["worker"]["command"]
    module, _, function = worker[2].partition(":")
    source = (ROOT / "deploy" / "handlers" / f"{module}.py").read_text()
    assert f"def {function}(" in source


def test_who_may_connect_to_what_is_named_for_every_port() -> None:
    pods = {
        document["metadata"]["name"]: document["spec"]["template"]
        for document in manifests("Deployment")
    }
    for name, pod in pods.items():
        policy = named("NetworkPolicy", name)["spec"]
        assert policy["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
        assert policy["policyTypes"] == ["Ingress"]
        # A rule without `from` lets everybody in, and one without `ports` to all of them.
        rules = policy.get("ingress", [])
        assert all(rule["from"] for rule in rules)
        opened = [port["port"] for rule in rules for port in rule["ports"]]
        there = [port["name"] for port in pod["spec"]["containers"][0].get("ports", [])]
        assert sorted(opened) == sorted(there)


def test_the_image_is_installed_by_hash_alone() -> None:
    steps = re.sub(r"\\\n", "", (ROOT / "deploy" / "Dockerfile").read_text())
    installs = re.findall(r"pip (?:install|wheel) ([^&\n]+)", steps)
    assert len(installs) == 4
    for arguments in installs:
        assert "--require-hashes" in arguments or "--no-deps" in arguments
    assert re.findall("FROM ([^ \n]+)", steps) == ["${PYTHON}", "${PYTHON}"]


def test_the_unit_bounds_what_a_fault_may_do() -> None:
    lines = (ROOT / "deploy" / "spooled.service").read_text().splitlines()
    for line in ("UMask=0077", "MemoryMax=2G", "SystemCallFilter=@system-service"):
        assert line in lines
