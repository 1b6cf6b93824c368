"""What is published: whole, nothing more, and each extra works by itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PACKAGE = ROOT / "spooled_pipelines"
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")

CORE = """
import spooled_pipelines, pyarrow as pa
with spooled_pipelines.connect("embedded:jobs.db") as client:
    batch = client.enqueue_batch(pa.table({"id": [1, 2]}), "q", key="id", name="n")
    for job in client.dequeue("q", "w", batch_size=2):
        client.complete(job, result={"seen": job.payload["id"]})
    assert batch.wait(timeout=30).completed == 2
    assert batch.results().num_rows == 2
"""
# What each extra is for, as the shortest program that needs it.
SMOKE = {
    "": CORE,
    "airflow": "from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor",
    "all": CORE,
    "cli": "import subprocess; subprocess.run(['spooled-pipelines', '--help'], check=True)",
    "dagster": "from spooled_pipelines.dagster import SpooledResource, settled_batch_sensor",
    "prefect": "from spooled_pipelines.prefect import SpooledCredentials, enqueue_batch",
    "dask": "import dask.dataframe, spooled_pipelines.engines.dask",
    "delta": """
import deltalake, pyarrow as pa, spooled_pipelines
deltalake.write_deltalake("lake", pa.table({"id": [1, 2]}))
with spooled_pipelines.connect("embedded:jobs.db") as client:
    assert client.enqueue_batch("lake", "q", key="id", table_version=0).created == 2
""",
    "iceberg": "import spooled_pipelines.batch.source.iceberg",
    "keyring": """
import os, subprocess
from pathlib import Path
Path("c.toml").write_text("[profiles.p]\\naddress = 'localhost:1'\\napi_key_keyring = true\\n")
environment = {**os.environ, "SPOOLED_CONFIG": "c.toml", "SPOOLED_PROFILE": "p"}
environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
command = ["spooled-pipelines", "stats", "q"]
done = subprocess.run(command, env=environment, capture_output=True, text=True)
assert "keyring set spooled-pipelines p" in done.stderr, done.stderr
""",
    "notebook": "from spooled_pipelines.notebook import bulk_enqueue, watch",
    "otel": "import opentelemetry.sdk, spooled_pipelines.rpc.tracing",
    "page": """
import subprocess, urllib.request
command = ["spooled-pipelines", "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
command += ["--api-key", "sp_test_0123456789"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
url = server.stdout.readline().split()[-1]
assert server.stdout.readline().startswith("listening on")
assert b"API key" in urllib.request.urlopen(url).read()
server.terminate()
assert server.wait(30) == 0
""",
    "pandas": """
import pandas as pd, spooled_pipelines
with spooled_pipelines.connect("embedded:jobs.db") as client:
    assert client.enqueue_batch(pd.DataFrame({"id": [1]}), "q", key="id", name="n").created == 1
""",
    "plot": "import matplotlib",
    "postgres": "from spooled_pipelines.server.store.postgres.store import PostgresStore",
    "ray": "import ray.data, spooled_pipelines.engines.ray",
    "schema": "import jsonschema, spooled_pipelines.batch.encoding.schema_check",
    "server": """
import spooled_pipelines.server.config.loading
import spooled_pipelines.server.telemetry.metrics
""",
    "spark": "import pyspark.sql, spooled_pipelines.engines.spark_source",
    "worker": CORE + "\nfrom spooled_pipelines.worker import Worker",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, made of a copy."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, source / "spooled_pipelines", ignore=leave)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def wheel_of(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        inside = {name for name in wheel.namelist() if not re.match(r"[^/]+\.dist-info/", name)}
    ours = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert inside == ours


def test_the_sdist_makes_the_same_wheel(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside <= names
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names


def test_what_is_published_passes_twine(built: Path) -> None:
    files = [str(path) for path in (*built.glob("*.whl"), *built.glob("*.tar.gz"))]
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_extra_has_a_smoke_test() -> None:
    extras = set(metadata.metadata("spooled-pipelines").get_all("Provides-Extra") or ())
    assert set(SMOKE) - {""} == extras - {"dev", "dev-core", "docs", "demo"}


def interpreters() -> Iterator[str]:
    """Every Python of ours that this machine has."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in VERSIONS:
        found = sorted(pyenv.glob(f"{version}.*/bin/python"))
        path = str(found[-1]) if found else shutil.which(f"python{version}")
        if path:
            yield path


def smoke(python: Path, program: str, folder: Path) -> None:
    done = subprocess.run(
        [str(python), "-W", "error::DeprecationWarning:spooled_pipelines", "-c", program],
        cwd=folder,
        env={**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def install(python: Path, wheel: Path, extra: str) -> None:
    what = f"{wheel}[{extra}]" if extra else str(wheel)
    command = [str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("extra", sorted(SMOKE))
def test_each_extra_alone_is_enough(built: Path, tmp_path: Path, extra: str) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install(python, wheel_of(built), extra)
    smoke(python, SMOKE[extra], tmp_path)
    print(f"extra {extra or 'none'}: ok")


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("interpreter", list(interpreters()))
def test_every_python_of_ours_runs_it(built: Path, tmp_path: Path, interpreter: str) -> None:
    subprocess.run([interpreter, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    install(python, wheel_of(built), "page,worker")
    for program in (CORE, SMOKE["page"], SMOKE["worker"]):
        smoke(python, program, tmp_path)
    print(f"{interpreter}: ok")


def test_the_licences_of_all_that_comes_along_are_listed() -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import build_licences
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    page = (ROOT / "docs" / "licences.md").read_text()
    rows = dict(re.findall(r"^\| (\S+) \| (.+?) \| \S+ \|$", page, re.MULTILINE))
    missing = {
        name: found[0]
        for name, found in build_licences.packages().items()
        if rows.get(name) != found[0]
    }
    assert missing == {}, "run python scripts/build_licences.py"
    for name in ("htmx", "idiomorph"):
        assert name in page
        assert name in (PACKAGE / "server/dashboard/static/LICENSES.txt").read_text()


def commands_of(text: str) -> set[str]:
    """The options of `serve` that a file names."""
    return set(re.findall(r"--[a-z][a-z-]+", text))


def test_what_is_deployed_names_settings_that_there_are() -> None:
    from spooled_pipelines.server.config.options import OPTIONS

    flags = {option.flag for option in OPTIONS.values()} | {"--config"}
    unit = (DEPLOY / "spooled.service").read_text()
    (line,) = re.findall("^ExecStart=.* serve (.*)$", unit, re.MULTILINE)
    assert commands_of(line) <= flags
    for text in (unit, (DEPLOY / "Dockerfile").read_text()):
        for variable in re.findall(r"SPOOLED_SERVER_([A-Z_]+)=", text):
            assert variable.lower() in OPTIONS, variable
