"""Handlers that return and raise what no handler should, by name, for every kind of executor."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import datetime as dt
import os
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pydantic

from spooled_pipelines import Job
from spooled_pipelines.worker import Discard, Retry, Snooze, batch_handler


class OwnError(BaseException):
    """Of no class that is usually caught."""


class OddMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise RuntimeError("getitem")

    def __iter__(self) -> Iterator[str]:
        return iter("a")

    def __len__(self) -> int:
        return 1


class OddDict(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("items")


class Lazy:
    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"getattr {name}")


class Liar:
    @property
    def __class__(self) -> type:
        raise RuntimeError("class")

    @__class__.setter
    def __class__(self, value: type) -> None: ...


class OddFloat:
    """A number of NumPy's kind whose value cannot be had."""

    ndim = 0

    def item(self) -> object:
        raise OverflowError("item")


OddFloat.__module__ = "numpy"


@dataclass
class Locked:
    n: int = 1
    lock: Any = field(default_factory=threading.Lock)


class Computed(pydantic.BaseModel):
    n: int = 1

    @pydantic.computed_field
    @property
    def worse(self) -> int:
        raise LookupError("computed")


class Dumped:
    def __init__(self, dumped: object) -> None:
        self._dumped = dumped

    def model_dump(self) -> object:
        if isinstance(self._dumped, BaseException):
            raise self._dumped
        return self._dumped


class AsPy:
    def as_py(self) -> object:
        raise ValueError("as_py")


class Rows:
    def __init__(self, rows: object) -> None:
        self._rows = rows

    def to_pylist(self) -> object:
        if isinstance(self._rows, BaseException):
            raise self._rows
        return self._rows


class Growing(Mapping[str, int]):
    """Within a dict, it adds to that dict while it is read, as another thread might."""

    def __init__(self, around: dict[str, object]) -> None:
        self._around = around

    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        self._around[f"more-{len(self._around)}"] = 1
        return iter(())

    def __len__(self) -> int:
        return 0


class TextlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("str")


class ExitingTextError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class TextlessDiscard(Discard):
    def __str__(self) -> str:
        raise RuntimeError("str")


class TextlessRetry(Retry):
    def __str__(self) -> str:
        raise RuntimeError("str")


class BareRetry(Retry):
    def __init__(self) -> None:
        Exception.__init__(self, "bare")


class BareSnooze(Snooze):
    def __init__(self) -> None:
        Exception.__init__(self, "bare")


class SoonRetry(Retry):
    def __init__(self) -> None:
        super().__init__("soon")
        self.after = "soon"  # type: ignore[assignment]


class OddText(str):
    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        raise RuntimeError("encode")


class OddTextError(Exception):
    def __str__(self) -> str:
        return OddText("odd")


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("name")


class NamelessError(Exception, metaclass=Nameless):
    pass


def deep(levels: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def circular() -> dict[str, object]:
    value: dict[str, object] = {}
    value["x"] = value
    return value


def growing() -> dict[str, object]:
    value: dict[str, object] = {}
    value["x"] = Growing(value)
    value["y"] = 1
    return value


def endless(depth: int = 0) -> int:
    return endless(depth + 1) + 1


async def awaited_nowhere() -> None: ...


def raising(error: BaseException) -> Callable[[], object]:
    def handler() -> object:
        raise error

    return handler


def raising_new(make: Callable[[], BaseException]) -> Callable[[], object]:
    def handler() -> object:
        raise make()

    return handler


def group(name: str, error: BaseException) -> BaseException:
    kind = getattr(builtins, name, None)
    return error if kind is None else kind("several", [error])


@dataclass(frozen=True)
class Odd:
    """What a handler does, and what becomes of its job: `end` with `said` in its error, or result.

    `end`: "completed"; "dead", for good; "again", tried again as after any other exception.
    """

    do: Callable[[], object]
    end: Literal["completed", "dead", "again"]
    said: str = ""
    result: Mapping[str, object] | None = None


KEPT = "the result cannot be kept: "

RETURNED: dict[str, Odd] = {
    "a fraction beyond every float": Odd(lambda: {"x": Fraction(10**400)}, "dead", KEPT),
    "an inexact fraction": Odd(lambda: {"x": Fraction(1, 3)}, "dead", KEPT),
    "a number that raises": Odd(lambda: {"x": OddFloat()}, "again", "OverflowError"),
    "a mapping that raises": Odd(OddMapping, "again", "RuntimeError"),
    "a mapping that raises, inside": Odd(lambda: {"x": OddMapping()}, "again", "RuntimeError"),
    "a dict that raises": Odd(lambda: OddDict(a=1), "again", "RuntimeError"),
    "a dict that raises, inside": Odd(lambda: {"x": OddDict(a=1)}, "again", "RuntimeError"),
    "a dict that changes": Odd(growing, "again", "RuntimeError"),
    "__getattr__ that raises": Odd(Lazy, "again", "RuntimeError"),
    "__getattr__ that raises, inside": Odd(lambda: {"x": Lazy()}, "again", "RuntimeError"),
    "__class__ that raises": Odd(Liar, "again", "RuntimeError"),
    "__class__ that raises, inside": Odd(lambda: [Liar()], "dead", "list"),
    "a dataclass with a lock": Odd(Locked, "again", "TypeError"),
    "a model whose field raises": Odd(Computed, "again", "LookupError"),
    "model_dump that exits": Odd(lambda: Dumped(SystemExit(3)), "again", "SystemExit"),
    "model_dump that interrupts": Odd(
        lambda: Dumped(KeyboardInterrupt()), "again", "KeyboardInterrupt"
    ),
    "model_dump that discards": Odd(lambda: Dumped(Discard("no use")), "dead", "no use"),
    "model_dump of no mapping": Odd(lambda: Dumped([1]), "dead", "Dumped"),
    "as_py that raises": Odd(AsPy, "again", "ValueError"),
    "to_pylist that raises": Odd(lambda: Rows(OwnError()), "again", "OwnError"),
    "to_pylist of no list": Odd(lambda: Rows(7), "again", "TypeError"),
    "a list": Odd(lambda: [1, 2], "dead", "list"),
    "a text": Odd(lambda: "x", "dead", "str"),
    "a number": Odd(lambda: 5, "dead", "int"),
    "true": Odd(lambda: True, "dead", "bool"),
    "a generator": Odd(lambda: (x for x in "ab"), "dead", "generator"),
    "a coroutine": Odd(awaited_nowhere, "dead", "coroutine"),
    "a class": Odd(lambda: Locked, "dead", "type"),
    "a module": Odd(lambda: sys, "dead", "module"),
    "not a number": Odd(lambda: {"x": float("nan")}, "dead", KEPT),
    "infinity": Odd(lambda: {"x": float("inf")}, "dead", KEPT),
    "an integer beyond 2**53": Odd(lambda: {"x": 2**60}, "dead", KEPT),
    "an integer of 5,000 digits": Odd(lambda: {"x": 10**5_000}, "dead", KEPT),
    "NumPy's numbers": Odd(
        lambda: {"x": np.int64(5), "y": np.array([1, 2]), "z": np.bool_(True)},
        "completed",
        result={"x": 5, "y": [1, 2], "z": True},
    ),
    "NumPy's NaN": Odd(lambda: {"x": np.float64("nan")}, "dead", KEPT),
    "NumPy's objects": Odd(lambda: {"x": np.array([object()])}, "dead", KEPT),
    "NumPy's time": Odd(lambda: {"x": np.datetime64("2020-01-01")}, "dead", KEPT),
    "bytes": Odd(lambda: {"x": b"1"}, "dead", KEPT),
    "a set": Odd(lambda: {"x": {1}}, "dead", KEPT),
    "a decimal": Odd(lambda: {"x": Decimal("1.50")}, "dead", KEPT),
    "a time": Odd(lambda: {"x": dt.datetime(2020, 1, 1)}, "dead", KEPT),  # noqa: DTZ001
    "a number for a name": Odd(lambda: {1: 2}, "dead", KEPT),
    "None for a name": Odd(lambda: {None: 2}, "dead", KEPT),
    "half a character": Odd(lambda: {"x": "\ud800"}, "dead", KEPT),
    "half a character in a name": Odd(lambda: {"\ud800": 1}, "dead", KEPT),
    "levels beyond the wire's": Odd(lambda: deep(100), "dead", KEPT),
    "levels beyond Python's": Odd(lambda: deep(20_000), "dead", KEPT),
    "itself": Odd(circular, "dead", KEPT),
    "more than 1 MiB": Odd(lambda: {"x": "y" * (1 << 20)}, "dead", KEPT),
    "nothing": Odd(lambda: None, "completed"),
    "an empty mapping": Odd(dict, "completed", result={}),
    "a read-only mapping": Odd(
        lambda: types.MappingProxyType({"a": 1}), "completed", result={"a": 1}
    ),
}

RAISED: dict[str, Odd] = {
    "sys.exit": Odd(lambda: sys.exit(3), "again", "SystemExit"),
    "KeyboardInterrupt": Odd(raising_new(KeyboardInterrupt), "again", "KeyboardInterrupt"),
    "a BaseException": Odd(raising_new(OwnError), "again", "OwnError"),
    "GeneratorExit": Odd(raising_new(GeneratorExit), "again", "GeneratorExit"),
    "a BaseExceptionGroup": Odd(
        raising_new(lambda: group("BaseExceptionGroup", OwnError())), "again", "several"
    ),
    "an ExceptionGroup": Odd(
        raising_new(lambda: group("ExceptionGroup", KeyError())), "again", "several"
    ),
    "CancelledError": Odd(raising_new(asyncio.CancelledError), "again", "CancelledError"),
    "StopIteration": Odd(raising_new(StopIteration), "again", "StopIteration"),
    "StopAsyncIteration": Odd(raising_new(StopAsyncIteration), "again", "StopAsyncIteration"),
    "endless recursion": Odd(endless, "again", "RecursionError"),
    "MemoryError": Odd(raising_new(MemoryError), "again", "MemoryError"),
    "no text": Odd(raising_new(ValueError), "again", "ValueError"),
    "a text that raises": Odd(raising_new(TextlessError), "again", "TextlessError"),
    "a text that exits": Odd(raising_new(ExitingTextError), "again", "ExitingTextError"),
    "an odd text": Odd(raising_new(OddTextError), "again", "OddTextError"),
    "a long text": Odd(raising_new(lambda: ValueError("x" * 100_000)), "again", "ValueError"),
    "half a character in a text": Odd(raising_new(lambda: ValueError("\ud800")), "again", "?"),
    "NUL in a text": Odd(raising_new(lambda: ValueError("a\x00b")), "again", "ValueError"),
    "an exception without a name": Odd(raising_new(NamelessError), "again", "cannot be read"),
    "Discard without a text": Odd(raising_new(TextlessDiscard), "dead", "cannot be read"),
    "Retry without a text": Odd(raising_new(TextlessRetry), "again", "cannot be read"),
    "Retry without `after`": Odd(raising_new(BareRetry), "again", "bare"),
    "Snooze without `after`": Odd(raising_new(BareSnooze), "again", "needs `after`"),
    "Retry `after` soon": Odd(raising_new(SoonRetry), "again", "soon"),
    "Retry after NaN": Odd(
        raising_new(lambda: Retry("x", after=float("nan"))), "again", "ValueError"
    ),
}

CASES = RETURNED | RAISED


async def exits() -> None:
    sys.exit(3)


async def with_task_that_exits() -> object:
    await asyncio.create_task(exits())
    return None


async def gathers_what_exits() -> object:
    await asyncio.gather(asyncio.sleep(10), exits())
    return None


async def leaves_a_task_that_exits() -> object:
    task = asyncio.create_task(exits())
    await asyncio.wait([task])
    return {"left": True}


async def calls_back_what_exits() -> object:
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(0.01)
    return {"called": True}


async def stops_the_loop() -> object:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return {"stopped": True}


async def closes_the_loop() -> object:
    asyncio.get_running_loop().close()
    return None


async def cancels_all() -> object:
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(0)
    return None


async def cancels_itself() -> object:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(10)
    return None


async def runs_another_loop() -> object:
    work = awaited_nowhere()
    with contextlib.closing(work):
        asyncio.run(work)
    return None


# What only a handler in an event loop can do; "result" where the job is to complete with it.
IN_LOOPS: dict[str, tuple[Callable[[], Awaitable[object]], str | dict[str, object]]] = {
    "a task that exits": (with_task_that_exits, "SystemExit"),
    "gather with a task that exits": (gathers_what_exits, "SystemExit"),
    "a task that exits, unread": (leaves_a_task_that_exits, {"left": True}),
    "a callback that exits": (calls_back_what_exits, {"called": True}),
    "loop.stop()": (stops_the_loop, {"stopped": True}),
    "loop.close()": (closes_the_loop, "RuntimeError"),
    "cancelling itself": (cancels_itself, "CancelledError"),
    "cancelling all tasks": (cancels_all, "CancelledError"),
    "asyncio.run()": (runs_another_loop, "RuntimeError"),
}


def plain(job: Job) -> object:
    case = job.payload.get("case")
    return {"n": job.payload["n"]} if case is None else CASES[case].do()


async def awaited(job: Job) -> object:
    await asyncio.sleep(0)
    case = job.payload.get("case")
    if case in IN_LOOPS:
        return await IN_LOOPS[case][0]()
    return plain(job)


@batch_handler(max_rows=1)
def rows(batch: pa.RecordBatch, jobs: list[Job]) -> object:
    return [plain(jobs[0])]


@batch_handler(max_rows=1)
async def awaited_rows(batch: pa.RecordBatch, jobs: list[Job]) -> object:
    return [await awaited(jobs[0])]


@batch_handler(max_rows=1_000, max_wait=0.5)
def all_rows(batch: pa.RecordBatch, jobs: list[Job]) -> object:
    return [CASES[j.payload["case"]].do() if j.payload["case"] else {"n": 1} for j in jobs]


def forks(job: Job) -> object:
    if os.fork() == 0:
        raise RuntimeError("the copy returns like its parent")
    return {"n": job.payload["n"]}


class WrongLength(list[object]):
    def __len__(self) -> int:
        return 2


class RaisingLength(list[object]):
    def __len__(self) -> int:
        raise RuntimeError("len")


class RaisingHalfway(list[object]):
    def __iter__(self) -> Iterator[object]:
        yield {}
        raise OwnError


# What is an outcome for each neither of one row nor of two.
NO_ROWS: list[Callable[[], object]] = [
    lambda: WrongLength([{}]),
    lambda: WrongLength([{}, {}, {}]),
    lambda: RaisingLength([{}, {}]),
    lambda: RaisingHalfway([{}, {}]),
    lambda: Rows(OwnError()),
    lambda: Rows(7),
    lambda: {"a": 1},
    lambda: {1, 2},
    lambda: (x for x in "ab"),
    lambda: pa.table({"a": [1, 2, 3]}),
    lambda: pa.array([1, 2]),
    Lazy,
    Liar,
    awaited_nowhere,
]
