"""Fixtures for every suite: real servers, clients of both kinds, a queue of one's own."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

# Assertions in helpers say what was compared, as those of tests do.
pytest.register_assert_rewrite("tests.support")

from tests.support import browser, durations, forked, prefect_server, run, skips, waiting
from tests.support.both import with_asyncio_face
from tests.support.server_process import ServerProcess

# How long an example takes says more about the machine than about the code. Each run draws others,
# and `make check-long` ten times as many.
hypothesis.settings.register_profile("sample", deadline=None, max_examples=30)
hypothesis.settings.register_profile("whole", deadline=None, max_examples=300)
hypothesis.settings.load_profile("sample")

# A shell starts what runs in its background deaf to Ctrl-C, and so would be what tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The fixture `world` of tests/airflow.
WITH_AIRFLOW = [
    f"tests/airflow/test_{name}.py" for name in ("marks", "pages", "reruns", "standalone")
]

WITH_PREFECT = ["tests/orchestration/test_promises.py", "tests/prefect/test_flows.py"]

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from spooled_pipelines import AsyncSpooledClient, SpooledClient
    from tests.support.postgres import Cluster


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        action="append",
        choices=("dask", "ray", "spark"),
        help="run tests/engines on this one alone (may be repeated)",
    )

    parser.addoption(
        "--executed",
        action="store_true",
        help="list the code blocks, notebooks and pages that ran",
    )
    parser.addoption(
        "--keep-durations",
        action="store_true",
        help="put what the files took into tests/durations.tsv",
    )
    parser.addoption(
        "--quick", action="store_true", help="run only the files that cost least, for 90 seconds"
    )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("--executed"):
        return
    names = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "executed" and report.when == "call"
    ]
    terminalreporter.section(f"executed: {len(names)}")
    for name in sorted(names):
        terminalreporter.write_line(str(name))


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        run.begin()
    config.pluginmanager.register(durations.Durations(config))


def pytest_unconfigure(config: pytest.Config) -> None:
    forked.end()
    if not hasattr(config, "workerinput"):
        run.end()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --quick the others are not even imported."""
    if not config.getoption("--quick"):
        return None
    root, chosen = config.rootpath, durations.quick(frozenset(WITH_AIRFLOW))
    if collection_path.is_dir():
        return not any((root / file).is_relative_to(collection_path) for file in chosen) or None
    return None if str(collection_path.relative_to(root)) in chosen else True


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What collecting makes stays until the end: the collector of garbage need not look at it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest go first: one of them alone at the end is waited for."""
    costs = durations.read()
    takes: dict[str, float] = defaultdict(float)
    # Sorted, so that every process of a run sums up and sorts alike.
    for file in sorted({durations.file_of(item) for item in items}):
        takes[_scope(file)] += costs.get(file, durations.NEW).wall
    items.sort(key=lambda item: -takes[_scope(durations.file_of(item))])


def _scope(file: str) -> str:
    """What runs in one process, one test after another."""
    shared = {"a real Airflow": WITH_AIRFLOW, "a Prefect server": WITH_PREFECT}
    return next((name for name, files in shared.items() if file in files), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests run in one process, and so do all files that have a real Airflow or a Prefect
    server in common: to start one takes a core for a minute, or for six seconds.
    """
    from xdist.scheduler import LoadFileScheduling

    class OneOfEach(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(super()._split_scope(nodeid))

    return OneOfEach(config, log)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """What is shared ends as soon as the next test does not want it."""
    if nextitem is None or durations.file_of(nextitem) not in WITH_PREFECT:
        prefect_server.end_prefect_server()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    skips.judge(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    skips.judge(report)
    return report


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPOOLED_GRPC_ADDRESS", "SPOOLED_API_KEY", "SPOOLED_TLS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the batch extension that all tests share: use a queue of your own."""
    with ServerProcess(tmp_path_factory.mktemp("server") / "jobs.db") as running:
        yield running


@pytest.fixture(scope="session")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that knows spooled.v1 alone, as Spooled Cloud does; shared like `server`."""
    store = tmp_path_factory.mktemp("plain") / "jobs.db"
    with ServerProcess(store, "--no-batch-extension") as running:
        yield running


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The PostgreSQL of this run: use a database of your own."""
    from tests.support.postgres import shared_cluster

    return shared_cluster()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts a server of the test's own, to kill or to give other arguments; ended afterwards."""
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def start(*arguments: str, **settings: Any) -> ServerProcess:
            store = tmp_path / f"jobs-{next(numbers)}.db"
            return stack.enter_context(ServerProcess(store, *arguments, **settings))

        yield start


@pytest.fixture
def client(server: ServerProcess) -> Iterator[SpooledClient]:
    from spooled_pipelines import connect

    with connect(server.address, api_key=server.api_key) as made:
        yield made


@pytest.fixture
async def async_client(server: ServerProcess) -> AsyncIterator[AsyncSpooledClient]:
    from spooled_pipelines import AsyncSpooledClient

    async with AsyncSpooledClient(server.address, api_key=server.api_key) as made:
        yield made


@pytest.fixture(params=["blocking", "asyncio"])
async def open_client(
    request: pytest.FixtureRequest,
) -> AsyncIterator[Callable[..., AsyncSpooledClient]]:
    """Opens a client of either kind, which takes what `connect` takes; its calls are awaited."""
    from spooled_pipelines import AsyncSpooledClient, SpooledClient

    async with AsyncExitStack() as stack:

        def open_one(server: ServerProcess | None = None, **settings: Any) -> AsyncSpooledClient:
            if server is not None:
                settings = {"address": server.address, "api_key": server.api_key, **settings}
            if request.param == "asyncio":
                client = AsyncSpooledClient(**settings)
            else:
                client = with_asyncio_face(SpooledClient(**settings))
            stack.push_async_callback(client.close)
            return client

        yield open_one


@pytest.fixture
def any_client(
    open_client: Callable[..., AsyncSpooledClient], server: ServerProcess
) -> AsyncSpooledClient:
    """A client of `server`: the test runs once with the blocking one, once with asyncio's."""
    return open_client(server)


@pytest.fixture
def queue() -> str:
    """A queue name that no other test uses."""
    return f"q-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def eventually() -> Callable[..., object]:
    """`eventually(condition, timeout)`: waits until it is true; fails at the deadline."""
    return waiting.eventually


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium, not for modules with asyncio tests."""
    with browser.running() as started:
        yield started


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """`open_page(address)`: a page in that Chromium, with cookies of the test's own."""
    with browser.opening_pages(chromium) as opened:
        yield opened


@pytest.fixture
def size() -> Callable[[str, int], int]:
    """`size("jobs", 200_000)`: a long run's size, or what SPOOLED_PROOF_JOBS says instead."""
    return lambda name, usual: int(os.environ.get(f"SPOOLED_PROOF_{name.upper()}", usual))
