"""A payload comes out as it went in, or it is refused with its place."""

import json
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.errors import InvalidArgumentError, LossyValueError
from spooled_pipelines.rpc.struct import from_struct, json_size, to_struct
from spooled_pipelines.wire import spooled_v1
from spooled_pipelines.wire.well_known import Struct

EXACT = 2**53
texts = st.text(st.characters(codec="utf-8"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-EXACT, EXACT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20
)
payloads = st.dictionaries(texts, values)


def over_the_wire(payload: Any) -> dict[str, Any]:
    return from_struct(Struct.FromString(to_struct(payload).SerializeToString()))


@given(payloads)
def test_what_is_sent_is_what_arrives(payload: dict[str, Any]) -> None:
    assert over_the_wire(payload) == payload


@given(payloads)
def test_the_text_of_a_json_object_is_as_good_as_a_dict(payload: dict[str, Any]) -> None:
    assert over_the_wire(json.dumps(payload)) == over_the_wire(payload)


@given(payloads)
def test_the_size_is_that_of_compact_json(payload: dict[str, Any]) -> None:
    arrived = over_the_wire(payload)
    text = json.dumps(arrived, ensure_ascii=False, separators=(",", ":"))
    assert json_size(to_struct(payload)) == len(text.encode())


@given(st.integers(-EXACT, EXACT))
def test_whole_numbers_come_back_whole(number: int) -> None:
    back = over_the_wire({"n": number})["n"]
    assert type(back) is int
    assert back == number


@given(st.integers(max_value=-EXACT - 1) | st.integers(min_value=EXACT + 1))
def test_an_integer_beyond_a_double_is_refused(number: int) -> None:
    with pytest.raises(LossyValueError) as caught:
        to_struct({"order": {"items": [{"id": 1}, {"id": number}]}})
    assert caught.value.column == "payload.order.items[1].id"
    assert caught.value.row is None
    assert "2**53" in caught.value.message


class Colour(str, Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ((1, 2), [1, 2]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (np.int64(7), 7),
        (np.uint8(7), 7),
        (np.float64(0.5), 0.5),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.bool_(True), True),
        (np.array([1, 2]), [1, 2]),
        (np.str_("x"), "x"),
        ({}, {}),
        ([], []),
        ([[]], [[]]),
        (-0.0, 0),
        (1e300, 1e300),
        (5e-324, 5e-324),
        (2.0**60, 2.0**60),
        (Fraction(1, 2), 0.5),
    ],
)
def test_what_has_an_exact_form_is_sent_in_it(value: object, arrives: object) -> None:
    back = over_the_wire({"v": value})["v"]
    assert back == arrives
    assert type(back) is type(arrives)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (float("nan"), "None or text"),
        (float("inf"), "None or text"),
        (np.float64("-inf"), "None or text"),
        (2**53 + 1, "text"),
        (np.uint64(2**64 - 1), "text"),
        (b"raw", "base64"),
        (bytearray(b"raw"), "base64"),
        (datetime(2026, 1, 1, tzinfo=timezone.utc), "isoformat"),
        (date(2026, 1, 1), "isoformat"),
        (np.datetime64("2026-01-01"), "isoformat"),
        (Decimal("0.1"), "str(value)"),
        (UUID(int=1), "str(value)"),
        (Fraction(1, 3), "str(value)"),
        (Fraction(10**400), "str(value)"),
        ({1, 2}, "a list"),
        (1j, "text"),
        (object(), "text"),
        ("\ud800", "Unicode"),
        ({"\udfff": 1}, "Unicode"),
        ({1: "x"}, "str"),
        ({None: "x"}, "str"),
    ],
)
def test_what_has_none_is_refused_with_its_place_and_a_way_out(value: object, advice: str) -> None:
    with pytest.raises(LossyValueError) as caught:
        to_struct({"deep": [0, value]})
    assert caught.value.column.startswith("payload.deep[1]")
    assert advice in caught.value.message


@pytest.mark.parametrize("payload", ["[1]", "3", "null", "{", "", "nonsense"])
def test_text_that_is_no_json_object_is_refused_without_showing_it(payload: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        to_struct(payload)
    assert "nonsense" not in caught.value.message


@pytest.mark.parametrize("payload", [None, 3, [1], b"{}"])
def test_a_payload_is_a_mapping(payload: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        to_struct(payload, what="result")
    assert caught.value.message.startswith("result must be ")


def test_a_number_in_json_text_is_checked_like_any_other() -> None:
    with pytest.raises(LossyValueError):
        to_struct('{"id": 9007199254740993}')
    with pytest.raises(LossyValueError):
        to_struct('{"x": NaN}')


def nested(depth: int, wrap: type) -> dict[str, Any]:
    inner: object = 1
    for _ in range(depth):
        inner = {"a": inner} if wrap is dict else [inner]
    return {"a": inner}


def is_let_through(payload: dict[str, Any]) -> bool:
    try:
        to_struct(payload)
    except InvalidArgumentError:
        return False
    return True


@pytest.mark.parametrize("wrap", [dict, list])
def test_whatever_depth_is_let_through_can_be_read_inside_every_answer(wrap: type) -> None:
    deepest = max(depth for depth in range(1, 100) if is_let_through(nested(depth, wrap)))
    payload = to_struct(nested(deepest, wrap))
    response = spooled_v1.DequeueResponse(jobs=[spooled_v1.Job(payload=payload)])
    assert spooled_v1.DequeueResponse.FromString(response.SerializeToString()) == response
    assert deepest > 25
    with pytest.raises(InvalidArgumentError, match="nested too deeply"):
        to_struct(nested(deepest + 1, wrap))


def test_a_payload_that_contains_itself_is_refused() -> None:
    payload: dict[str, Any] = {}
    payload["me"] = payload
    with pytest.raises(InvalidArgumentError) as caught:
        to_struct(payload)
    assert "contains itself" in caught.value.message


@pytest.mark.parametrize("sign", ["x", "ä", "€", '"', "\x01"])
def test_a_payload_up_to_a_mebibyte_of_json_is_let_through(sign: str) -> None:
    per_sign = len(json.dumps(sign, ensure_ascii=False).encode()) - 2
    count = ((1 << 20) - len('{"a":""}')) // per_sign
    assert json_size(to_struct({"a": sign * count})) <= 1 << 20
    with pytest.raises(InvalidArgumentError) as caught:
        to_struct({"a": sign * (count + 1)})
    assert "1 MiB" in caught.value.message
