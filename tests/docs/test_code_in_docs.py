"""Every block of code in README and docs runs, against a real server; what cannot run here says so.

pytest tests/docs/test_code_in_docs.py --executed     lists the blocks that ran
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from spooled_pipelines.server.config.loading import Options
from tests.support import forked, programs
from tests.support.doc_blocks import PROGRAMS, ROOT, SETTINGS, WORDS, Block, blocks_of, pages
from tests.support.server_process import ServerProcess

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BLOCKS = [block for page in pages() for block in blocks_of(page)]
# How many blocks cannot run here, by page: a cluster, Docker, an account, a machine to set up,
# packages to install, a figure to measure. Another one takes a reason that is as good.
NOT_RUN = {
    "README.md": 2,
    "docs/engines.md": 1,
    "docs/howto/deploying.md": 2,
    "docs/howto/files.md": 1,
    "docs/howto/from-prefect.md": 1,
    "docs/howto/spooled-cloud.md": 1,
    "docs/index.md": 1,
    "docs/kubernetes.md": 2,
    "docs/notebook.md": 1,
    "docs/performance.md": 1,
    "docs/postgresql.md": 1,
    "docs/tracing.md": 1,
}
# These start many processes of their own, servers and Airflows and engines: minutes, where others
# want the cores too. Of their kind `docs/airflow.md` and `docs/cli.md` are in every run.
MANY_PROCESSES = {
    "docs/airflow-dags.md",
    "docs/airflow-enqueue.md",
    "docs/airflow-wait.md",
    "docs/engines.md",
    "docs/howto/from-dagster.md",
    "docs/howto/from-prefect.md",
    "docs/howto/moving-over.md",
    "docs/howto/nightly.md",
    "docs/howto/tls-and-keys.md",
    "docs/server.md",
    "docs/shell.md",
    "docs/tracing.md",
    "docs/when-it-breaks.md",
    "docs/worker.md",
}
# The pages of errors are of one form: every eighth is in each run, and all are in the long one.
ERRORS = sorted({block.page for block in BLOCKS if block.page.startswith("docs/errors/")})
OTHER_ERRORS = set(ERRORS) - set(ERRORS[::8])


def runs() -> Iterator[Any]:
    """The blocks of a page that run in one process, beside one server."""
    ours = [block for block in BLOCKS if block.runs]
    for (page, server, is_long), found in itertools.groupby(
        sorted(ours, key=lambda block: (block.page, block.server, block.is_long, block.number)),
        key=lambda block: (block.page, block.server, block.is_long),
    ):
        name = " ".join(filter(None, (page.removesuffix(".md"), server)))
        marks = [pytest.mark.timeout(1_200)]
        if is_long or page in MANY_PROCESSES or page in OTHER_ERRORS:
            marks.append(pytest.mark.long)
        yield pytest.param(list(found), id=name, marks=marks)


@pytest.mark.parametrize("blocks", list(runs()))
def test_the_blocks_of_a_page_run_from_its_top_to_its_end(
    blocks: list[Block],
    start_server: Callable[..., ServerProcess],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    # A page has its own: many of them speak of the queue `orders`, each as if it were alone.
    used = start_server(*blocks[0].server.split())
    folder = tmp_path / "page"
    folder.mkdir()
    done = forked.run(
        programs.command("doc_page", blocks[0].page, *(str(block.number) for block in blocks)),
        cwd=folder,
        env=_environment(used, folder),
    )
    if found := re.search(r"^cannot run: (.+)$", done.stdout, re.MULTILINE):
        pytest.skip(found[1])
    ran = re.findall(r"^ran (.+)$", done.stdout, re.MULTILINE)
    for name in ran:
        record_property("executed", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(ran) >= {block.name for block in blocks}


def _environment(server: ServerProcess, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "SPOOLED_GRPC_ADDRESS": server.address,
        "SPOOLED_API_KEY": server.api_key,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }


def test_every_block_is_run_or_read_or_says_why_not() -> None:
    for block in BLOCKS:
        assert block.language in (*PROGRAMS, *SETTINGS, *WORDS), f"{block.name} is {block.language}"
        if block.language not in PROGRAMS:
            assert block.not_run is None, f"{block.name}: there is nothing to run"
        assert block.not_run != "", f"{block.name} does not say why it cannot run"


def test_what_cannot_run_here_is_counted() -> None:
    left_out = [block for block in BLOCKS if block.language in PROGRAMS and not block.runs]
    assert Counter(block.page for block in left_out) == NOT_RUN


@pytest.mark.parametrize(
    "block",
    [pytest.param(b, id=b.name) for b in BLOCKS if b.language in SETTINGS],
)
def test_settings_are_read_by_what_they_are_for(
    block: Block, record_property: Callable[[str, object], None]
) -> None:
    if block.language == "toml":
        found = tomllib.loads(block.text)
        if "profiles" not in found:
            Options.model_validate({name.replace("-", "_"): value for name, value in found.items()})
    elif block.language == "yaml":
        container = {"name": "c", "image": "i", **yaml.safe_load(block.text)}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
        kubernetes_validate.validate({**pod, "spec": {"containers": [container]}}, "1.30")
    # SQL is run by the page that it is on, in a PostgreSQL of the test's own.
    record_property("executed", block.name)


def test_the_readme_s_first_program_runs_and_a_second_run_enqueues_nothing(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    shown = (b.text for b in BLOCKS if b.page == "README.md" and b.language == "python")
    program.write_text(next(shown))

    def run() -> str:
        done = forked.run(
            [sys.executable, str(program)],
            cwd=tmp_path,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first, second = run(), run()
    assert first.startswith("3 created, 0 duplicates\n")
    assert second.startswith("0 created, 3 duplicates\n")
    assert first.count("completed") == second.count("completed") == 3
    assert "11.4" in second


def test_readme_has_the_two_commands_that_set_everything_up() -> None:
    readme = (ROOT / "README.md").read_text()
    console = re.search(r"^```console\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert console is not None
    commands = [line.split("#")[0].strip() for line in console[1].strip().splitlines()]
    assert commands == ["make demo", "make test"]
