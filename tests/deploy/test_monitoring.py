"""Alert rules and dashboard ask for what servers tell; promtool and a real Prometheus say so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.ports import HeldPort
from tests.support.waiting import aeventually
from tests.support.wire import Wire

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"][0]["rules"]
TESTS = yaml.safe_load((DEPLOY / "prometheus/tests.yaml").read_text())["tests"]
DASHBOARD = json.loads((DEPLOY / "grafana/spooled.json").read_text())


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"there is no {name}: it is in Debian's package prometheus")
    return path


def queries() -> dict[str, str]:
    """Each query of the alerts and of the dashboard, by where it stands."""
    found = {rule["alert"]: rule["expr"] for rule in ALERTS}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def test_promtool_finds_that_each_rule_fires_when_it_should() -> None:
    tool = program("promtool")
    for arguments in (["check", "rules", "alerts.yaml"], ["test", "rules", "tests.yaml"]):
        done = subprocess.run(
            [tool, *arguments],
            cwd=DEPLOY / "prometheus",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_says_what_to_do_and_is_on_the_page() -> None:
    fires = {
        case["alertname"]
        for test in TESTS
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    names = [rule["alert"] for rule in ALERTS]
    assert fires == set(names)
    for rule in ALERTS:
        assert rule["annotations"].keys() == {"summary", "action"}
        assert rule["labels"]["severity"] in ("page", "ticket")
    page = (ROOT / "docs/metrics.md").read_text()
    assert re.findall(r"^\| `(Spooled\w+)` \|", page, re.MULTILINE) == names


def test_queries_name_only_metrics_and_labels_that_there_are() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `([a-z]\w+)` \| \w+ \|([^|]*)\|", page, re.MULTILINE)
    labels = {name: {*re.findall(r"`(\w+)`", text), "instance", "job", "le"} for name, text in rows}
    for where, query in queries().items():
        for metric, selector in re.findall(r"((?:spooled|process)_\w+)(?:\{(.*?)\})?", query):
            name = re.sub(r"_(bucket|count|sum)$", "", metric)
            assert name in labels, where
            assert set(re.findall(r"(\w+)!?=", selector)) <= labels[name], where


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[Wire]:
    """A server of which each metric has something to tell."""
    async with Wire(tmp_path, metrics="127.0.0.1:0") as wire:
        await wire.call(spooled.RegisterWorkerRequest(queue_name="q", worker_id="w"), "Register")
        yield wire


async def keep_busy(wire: Wire) -> None:
    for _ in range(4):
        await wire.enqueue()
    done, failed, _ = [await wire.claim() for _ in range(3)]
    complete = spooled.CompleteRequest(job_id=done.id, worker_id="w", lease_id=done.lease_id)
    await wire.call(complete)
    fail = spooled.FailRequest(job_id=failed.id, worker_id="w", error="broken", retry=True)
    await wire.call(fail)
    # The third one's lease runs out.
    wire.clock.advance(40)


@pytest.fixture
def scraper(busy: Wire, tmp_path: Path) -> Iterator[str]:
    """The address of a real Prometheus that scrapes the server."""
    port = HeldPort()
    address = f"127.0.0.1:{port.number}"
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
        "rule_files": [str(DEPLOY / "prometheus/alerts.yaml")],
        "scrape_configs": [
            {
                "job_name": "spooled",
                "static_configs": [{"targets": [busy.server.metrics_address]}],
            }
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    command = [program("prometheus"), f"--config.file={tmp_path / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address={address}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    yield address
    process.terminate()
    process.wait(30)
    port.close()


def asked(address: str, query: str) -> list[Any]:
    for name, value in (("$organization", ".*"), ("$queue", ".*"), ("$__rate_interval", "1m")):
        query = query.replace(name, value)
    url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            result: list[Any] = json.loads(answer.read())["data"]["result"]
            return result
    except ConnectionError:
        return []
    except urllib.error.HTTPError as error:
        said = error.read().decode()
        if error.code != 503:
            raise AssertionError(f"{query}: {said}") from error
        return []
    except urllib.error.URLError:
        return []


async def test_a_real_prometheus_answers_every_query_of_the_dashboard(
    busy: Wire, scraper: str
) -> None:
    def scrapes() -> int:
        # A busy machine answers some of them too late.
        found = asked(scraper, 'sum_over_time(up{job="spooled"}[1m])')
        return int(found[0]["value"][1]) if found else 0

    async def once_more() -> bool:
        return await asyncio.to_thread(scrapes) > before + 1

    for _ in range(2):
        before = await asyncio.to_thread(scrapes)
        await keep_busy(busy)
        await aeventually(once_more)
    # What happens rarely, and what a threshold leaves out, has no series now.
    quiet = {rule["alert"] for rule in ALERTS} | {
        "Workers B",
        "Oldest open batch A",
        "Runs that died B",
        "Dead letters A",
        "Dead rows A",
        "Failures beside the calls A",
    }
    open_ones = {where: query for where, query in queries().items() if where not in quiet}

    async def all_have_answered() -> bool:
        for where, query in list(open_ones.items()):
            # Where the last scrape came too late, there is nothing for a moment.
            if await asyncio.to_thread(asked, scraper, query):
                del open_ones[where]
        return not open_ones

    with contextlib.suppress(AssertionError):
        await aeventually(all_have_answered)
    assert open_ones == {}
