"""Numbers, texts and truth values in columns of JSON text, encoded by Arrow and not one by one."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.encoding.columns import from_array, length_delimited
from spooled_pipelines.batch.encoding.protobuf_wire import (
    VALUE_FALSE,
    VALUE_NULL,
    VALUE_NUMBER,
    VALUE_STRING,
    VALUE_TRUE,
)

_LITERALS = pa.array(["null", "false", "true"])
_LITERAL_VALUES = pa.array([VALUE_NULL, VALUE_FALSE, VALUE_TRUE], pa.binary())
# Texts without an escape. Others, and numbers with an exponent, are rare.
_TEXT = r'^"[^"\\\x00-\x1f]*"\z'
_NUMBER = r"^-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,20})?\z"
# So many characters hold at most 15 digits, which a double always keeps.
_SURELY_EXACT_CHARACTERS = 15


def encode_scalars(texts: pa.StringArray, *, unsigned_zeros: bool) -> pa.BinaryArray:
    """Return the Value message of each text that says a plain scalar; null for all others.

    A number that a double may not hold exactly is one of the others.
    """
    encoded = _LITERAL_VALUES.take(pc.index_in(texts, _LITERALS))
    is_text = pc.match_substring_regex(texts, _TEXT).fill_null(False)
    contents = pc.binary_slice(texts.filter(is_text).cast(pa.binary()), 1, -1)
    values = from_array(contents).with_length_prefix(length_delimited(VALUE_STRING))
    encoded = pc.replace_with_mask(encoded, is_text, values.to_array(len(contents)))
    is_number = pc.match_substring_regex(texts, _NUMBER).fill_null(False)
    numbers = texts.filter(is_number)
    doubles = numbers.cast(pa.float64())
    exact = pc.or_(
        pc.less_equal(pc.binary_length(numbers), _SURELY_EXACT_CHARACTERS),
        pc.equal(doubles.cast(pa.string()), numbers),
    )
    # The whole number -0 is 0.
    exact = pc.and_not(exact, pc.equal(numbers, "-0"))
    if unsigned_zeros:
        doubles = pc.add(doubles, 0.0)
    contents = doubles.view(pa.binary(8)).cast(pa.binary())
    messages = pc.binary_join_element_wise(pa.scalar(VALUE_NUMBER, pa.binary()), contents, b"")
    messages = pc.if_else(exact, messages, pa.scalar(None, pa.binary()))
    return pc.replace_with_mask(encoded, is_number, messages)
