"""What commands print: JSON for programs, lines for people, progress on stderr."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from spooled_pipelines.text import plain, plain_json

if TYPE_CHECKING:
    from spooled_pipelines.batch.plan import BatchPlan

_SAMPLE_CHARACTERS = 200


def print_json(value: object) -> None:
    """Print one line of JSON."""
    text = json.dumps(value, default=_to_jsonable, ensure_ascii=False)
    print(plain_json(text), flush=True)


def say(text: str = "", file: TextIO | None = None) -> None:
    """Print lines for people; characters that a terminal would obey are shown instead."""
    print(plain(text), file=file, flush=True)


@contextmanager
def ignore_broken_pipe() -> Iterator[None]:
    """End quietly when the reader of stdout has had enough, as `| head` does."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _to_jsonable(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Print names and values below each other, with thousands separators."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        text = (
            f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        )
        say(f"{name:<{width}}  {' '.join(text.splitlines())}")


def print_record(pairs: Mapping[str, object], as_json: bool) -> None:
    """Print names and values as JSON for programs, or as lines for people."""
    if as_json:
        print_json(pairs)
    else:
        print_pairs(pairs)


def print_plan(plan: BatchPlan, as_json: bool) -> None:
    """Print what `enqueue` would do."""
    if as_json:
        print_json(plan.to_dict())
        return
    print_pairs(
        {
            "batch": plan.batch_id,
            "queue": plan.queue_name,
            "rows": plan.rows,
            "to create": plan.created,
            "duplicates": "unknown (the server cannot be asked)"
            if plan.duplicates is None
            else plan.duplicates,
            **({"changed": plan.changed} if plan.changed else {}),
            "rejected": plan.rejected,
            "bytes": plan.bytes,
            "chunks": plan.chunks,
        }
    )
    for note in plan.notes:
        say(note)
    for reason, count in plan.reasons.items():
        say(f"rejected: {count} × {reason}")
    for sample in plan.samples:
        payload = json.dumps(sample, ensure_ascii=False, sort_keys=True)
        say(f"payload: {payload[:_SAMPLE_CHARACTERS]}")
    print("nothing was written")
