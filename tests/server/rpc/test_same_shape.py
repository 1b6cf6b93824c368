"""The check of payloads by column passes nothing that the parser's check refuses."""

from __future__ import annotations

import math
import random
import struct

import pytest

from spooled_pipelines.server.core.protobuf import field
from spooled_pipelines.server.services.validation.chunks import (
    BY_COLUMN_ROWS,
    checked_chunk,
    checked_upload,
)
from spooled_pipelines.server.services.validation.same_shape import are_surely_valid
from spooled_pipelines.server.services.validation.structs import check_chunk_request
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.well_known import Struct, Value
from tests.server.rpc.test_odd_values import REFUSED

_SEED = 20261130
_SAMPLE, _ALL = 3_000, 200_000
_VALUES = (
    Value(null_value=0),  # type: ignore[arg-type]
    Value(number_value=-0.0),
    Value(number_value=1.7e308),
    Value(bool_value=False),
    Value(bool_value=True),
    Value(string_value=""),
    Value(string_value="x"),
    Value(string_value="twelve bytes"),
    Value(string_value="y" * 110),
)


def _row(random: random.Random, names: tuple[str, ...] = ("a", "b" * 9, "n")) -> bytes:
    pieces = (
        field(1, field(1, name.encode()) + field(2, random.choice(_VALUES).SerializeToString()))
        for name in names
    )
    return b"".join(pieces)


def _message(payloads: list[bytes]) -> tuple[bytes, batch_v1.JobChunk]:
    keys = [f"{place:032x}" for place in range(len(payloads))]
    chunk = batch_v1.JobChunk(payloads=payloads, idempotency_keys=keys)
    return batch_v1.EnqueueBatchRequest(chunk=chunk).SerializeToString(), chunk


def test_flat_rows_of_all_kinds_of_values_pass() -> None:
    numbers = random.Random(_SEED)
    assert are_surely_valid([_row(numbers) for _ in range(1_000)])
    assert are_surely_valid([b"", b""])


@pytest.mark.parametrize("name", REFUSED)
def test_one_odd_payload_among_many_is_the_one_refused(name: str) -> None:
    odd, reason = REFUSED[name]
    payloads = [Struct(fields={"n": Value(number_value=1)}).SerializeToString()] * BY_COLUMN_ROWS
    payloads[300] = odd
    upload = checked_upload(
        batch_v1.OpenBatch(batch_id="b", queue_name="q", key_name="q", upload_id="u")
    )
    checked = checked_chunk(upload, *_message(payloads))
    assert list(checked.found.rejected) == [300]
    assert reason in checked.found.rejected[300]
    assert len(checked.chunk.payloads) == BY_COLUMN_ROWS - 1


@pytest.mark.parametrize(
    "other",
    [
        field(1, field(1, b"a") + field(2, b"\x1a\x02\xc3\x28")),
        field(1, field(1, b"a") + field(2, b"\x1a\x09" + b"\xff" * 9)),
        field(1, field(1, b"a") + field(2, b"\x11" + struct.pack("<d", -math.inf))),
        field(1, field(1, b"a") + field(2, b"\x20\x02")),
        field(1, field(1, b"a") + field(2, b"\x1a\xff")),
        field(1, field(1, b"a") + field(2, b"")),
        field(1, field(1, b"b") + field(2, b"\x20\x01")),
        field(1, field(1, b"a") + field(2, b"\x20\x01")) + b"\x0a",
        field(1, field(1, b"a") + field(2, b"\x20\x01")) * 2,
        b"",
    ],
)
def test_what_differs_from_the_first_is_left_to_the_parser(other: bytes) -> None:
    first = field(1, field(1, b"a") + field(2, b"\x20\x01"))
    for payloads in ([first, other], [first, other, first]):
        assert not are_surely_valid(payloads)


@pytest.mark.parametrize(
    "tries", [_SAMPLE, pytest.param(_ALL, marks=pytest.mark.long)], ids=["sample", "all"]
)
def test_no_change_of_a_byte_gets_past_that_the_parser_refuses(tries: int) -> None:
    numbers = random.Random(_SEED)
    passed = 0
    for _ in range(tries):
        payloads = [_row(numbers) for _ in range(3)]
        changed = bytearray(payloads[1])
        for _ in range(numbers.choice((1, 1, 2))):
            at = numbers.randrange(len(changed))
            act = numbers.randrange(3)
            if act == 0:
                changed[at] = numbers.choice((0, 1, 0x08, 0x11, 0x1A, 0x7F, 0x80, 0xF0, 0xFF))
            elif act == 1:
                del changed[at : at + numbers.choice((1, 2, 9))]
            else:
                changed[at:at] = numbers.randbytes(numbers.choice((1, 2, 9)))
            if not changed:
                break
        payloads[1] = bytes(changed)
        if are_surely_valid(payloads):
            passed += 1
            request, _ = _message(payloads)
            assert check_chunk_request(request, payloads) == [], payloads[1].hex()
    # Some changes make another valid value, and those are found to be valid.
    assert passed > tries / 100
