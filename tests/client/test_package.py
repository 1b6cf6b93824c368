"""The package as a whole: what it offers, what it costs to import, and both sides alike."""

import importlib
import inspect
import json
import re
import subprocess
import sys
import typing
from collections import abc
from pathlib import Path
from typing import Any

import pytest

import spooled_pipelines
from spooled_pipelines import errors

ROOT = Path(spooled_pipelines.__file__).parent.parent
PUBLIC = [
    "AddedPart",
    "AsyncBatch",
    "AsyncBatchBackend",
    "AsyncJobStream",
    "AsyncOpenBatch",
    "AsyncProcessStream",
    "AsyncSpooledClient",
    "Batch",
    "BatchBackend",
    "BatchPart",
    "BatchPlan",
    "BatchStats",
    "CancelResult",
    "ConnectionSettings",
    "EnqueueResult",
    "FailResult",
    "HeartbeatResult",
    "Job",
    "JobAttempt",
    "JobCompleted",
    "JobFailed",
    "JobStatus",
    "JobStream",
    "LeaseRenewed",
    "OpenBatch",
    "ProcessStream",
    "Queue",
    "QueueLimits",
    "QueueStats",
    "QueueThrottle",
    "RequestRejected",
    "RetryPolicy",
    "SettledResults",
    "SpooledClient",
    "Stall",
    "TLS",
    "TextOptions",
    "WaitingError",
    "WorkerRegistration",
    "WorkerState",
    "__version__",
    "connect",
    "errors",
]
HEAVY = ["airflow", "google", "grpc", "numpy", "pandas", "pyarrow"]


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh Python has loaded after this statement."""
    program = f"import sys, json\n{statement}\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize(
    "statement",
    [
        "import spooled_pipelines",
        "import spooled_pipelines.client",
        "from spooled_pipelines import errors",
        "from spooled_pipelines import Job, BatchStats, EnqueueResult, __version__",
        "import spooled_pipelines.rpc.settings",
    ],
)
def test_importing_it_loads_nothing_heavy(statement: str) -> None:
    assert not loaded_after(statement) & set(HEAVY)


@pytest.mark.parametrize(
    "statement",
    [
        "from spooled_pipelines import connect",
        "from spooled_pipelines import AsyncSpooledClient",
        "from spooled_pipelines import Batch",
        # What the payloads that a worker gets were once, it reads for a handler that asks for it.
        (
            "from spooled_pipelines.worker import Worker; "
            "from spooled_pipelines.batch.values.row_schema import row_schema; row_schema(b'', 1)"
        ),
    ],
)
def test_the_clients_load_grpc_and_no_tables(statement: str) -> None:
    loaded = loaded_after(statement)
    assert "grpc" in loaded
    assert not loaded & {"airflow", "numpy", "pandas", "pyarrow"}


def test_the_public_names_are_these_and_each_is_there() -> None:
    assert sorted(spooled_pipelines.__all__) == PUBLIC
    assert dir(spooled_pipelines) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(spooled_pipelines, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_that"):
        spooled_pipelines.nothing_like_that  # type: ignore[attr-defined] # noqa: B018


def test_what_methods_return_and_take_can_be_named_from_the_top() -> None:
    """No user annotates with a name from deep inside."""
    named: set[str] = set()
    for kind in (
        spooled_pipelines.SpooledClient,
        spooled_pipelines.Batch,
        spooled_pipelines.OpenBatch,
    ):
        for _, method in inspect.getmembers(kind, inspect.isfunction):
            if not method.__name__.startswith("_"):
                named |= set(
                    re.findall(r"\b[A-Z][A-Za-z]+\b", str(method.__annotations__["return"]))
                )
    ours = {name for name in named if not hasattr(typing, name) and not hasattr(abc, name)}
    assert ours - {"Table", "RecordBatchReader", "Figure", "None"} <= set(PUBLIC)


def test_every_error_is_listed_and_of_one_tree() -> None:
    there = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert there <= set(errors.__all__)
    for name in there:
        assert issubclass(getattr(errors, name), errors.SpooledError)


PAIRS = [
    ("client.{}.client", "AsyncSpooledClient", "SpooledClient"),
    ("client.{}.streams", "AsyncJobStream", "JobStream"),
    ("client.{}.process", "AsyncProcessStream", "ProcessStream"),
    ("rpc.{}.connection", "AsyncConnection", "Connection"),
    ("rpc.{}.runtime", "AsyncChannel", "Channel"),
    ("rpc.{}.runtime", "AsyncServerStream", "ServerStream"),
    ("rpc.{}.runtime", "AsyncBidiStream", "BidiStream"),
    ("batch.{}.batch", "AsyncBatch", "Batch"),
    ("batch.{}.open_batch", "AsyncOpenBatch", "OpenBatch"),
]
RENAMED = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
}


def members(kind: type) -> dict[str, object]:
    found = {}
    for name, value in inspect.getmembers(kind):
        special = name in RENAMED or name in RENAMED.values()
        if special or not name.startswith("_"):
            found[RENAMED.get(name, name)] = value
    return found


def signature(value: Any) -> str:
    text = str(inspect.signature(value))
    for word, by in (
        ("AsyncIterator", "Iterator"),
        ("AsyncGenerator", "Generator"),
        ("Async", ""),
        (".aio.", ".sync."),
    ):
        text = text.replace(word, by)
    return text


@pytest.mark.parametrize(("module", "aio", "sync"), PAIRS, ids=[pair[2] for pair in PAIRS])
def test_both_sides_offer_the_same_methods_with_the_same_arguments(
    module: str, aio: str, sync: str
) -> None:
    def side(name: str, kind: str) -> dict[str, object]:
        loaded = importlib.import_module(f"spooled_pipelines.{module.format(name)}")
        return members(getattr(loaded, kind))

    asyncio_side, blocking_side = side("aio", aio), side("sync", sync)
    assert asyncio_side.keys() == blocking_side.keys()
    for name, method in asyncio_side.items():
        if callable(method) and name != "__class__":
            assert signature(method) == signature(blocking_side[name]), name


def test_connect_takes_what_the_client_takes() -> None:
    taken = inspect.signature(spooled_pipelines.connect).parameters
    client = inspect.signature(spooled_pipelines.SpooledClient).parameters
    assert list(taken) == list(client)
    for name, parameter in taken.items():
        assert parameter.kind == client[name].kind
        assert parameter.default == client[name].default


def test_the_blocking_side_is_what_the_asyncio_side_gives() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/build_sync.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_generated_module_awaits() -> None:
    for path in (ROOT / "spooled_pipelines").glob("*/sync/*.py"):
        names = set(path.read_text().split())
        assert not names & {"await", "async"}, path


@pytest.mark.parametrize("package", ["rpc"])
def test_the_handwritten_runtimes_offer_the_same_names(package: str) -> None:
    offered = {}
    for side in ("aio", "sync"):
        runtime = importlib.import_module(f"spooled_pipelines.{package}.{side}.runtime")
        names = getattr(runtime, "__all__", None) or [
            name
            for name, value in vars(runtime).items()
            if getattr(value, "__module__", None) == runtime.__name__
        ]
        offered[side] = {name.removeprefix("Async") for name in names}
        assert offered[side]
    assert offered["aio"] == offered["sync"]
