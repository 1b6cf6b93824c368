"""Python values of different types as JSON texts: type by type, and not one by one."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import chain, compress, repeat
from json.encoder import encode_basestring
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.values.exact_json import encode_with_exact_numbers

# The types that are written together; all others are written one by one.
_NULL, _BOOL, _INT, _FLOAT, _TEXT, _NESTED, _OTHER = range(7)
_GROUPS: dict[type, int] = {
    type(None): _NULL,
    bool: _BOOL,
    int: _INT,
    float: _FLOAT,
    str: _TEXT,
    dict: _NESTED,
    list: _NESTED,
    tuple: _NESTED,
}
_PLAIN = frozenset((type(None), bool, int, float, str))
_PLAIN_NAMES = frozenset((str,))
# Of nested values: a list may hold itself, and has no end then.
_DEPTH_MAX, _COUNT_MAX = 8, 1_000_000
# Stands between nested values. Nobody can guess it, so no value holds it.
_BETWEEN = f"between {secrets.token_hex(8)}"
_SEPARATOR, _END = f',"{_BETWEEN}",', f',"{_BETWEEN}"]'
_QUOTE = pa.scalar('"')


def json_texts(values: list[Any], text_of: Callable[[object, int], str | None]) -> pa.StringArray:
    """Return the JSON text of each value; null for None and NaN.

    `text_of` returns the text of a value at an index whose type is not one of JSON's.
    """
    groups = bytes(map(_GROUPS.get, map(type, values), repeat(_OTHER)))
    codes = pa.Array.from_buffers(pa.uint8(), len(values), [None, pa.py_buffer(groups)])
    texts = pa.nulls(len(values), pa.string())
    for group in set(groups) - {_NULL}:
        members = bytes(code == group for code in range(_OTHER + 1))
        selected = groups.translate(members.ljust(256, b"\0"))
        of_group = list(compress(values, selected))
        made = None
        if group in _WRITERS:
            made = _WRITERS[group](of_group)
        if made is None:
            indices = compress(range(len(values)), selected)
            made = pa.array(map(text_of, of_group, indices), pa.string())
        texts = pc.replace_with_mask(texts, pc.equal(codes, group), made)
    return texts


def _bools(values: list[bool]) -> pa.StringArray:
    return pa.array(values, pa.bool_()).cast(pa.string())


def _ints(values: list[int]) -> pa.StringArray:
    try:
        return pa.array(values, pa.int64()).cast(pa.string())
    except OverflowError:
        return pa.array(map(repr, values), pa.string())


def _floats(values: list[float]) -> pa.StringArray:
    doubles = pa.array(values, pa.float64(), from_pandas=True)
    texts = doubles.cast(pa.string())
    # Arrow writes 1.0 as 1, and -0.0, which is another number than 0, as -0.
    is_whole = pc.match_substring_regex(texts, r"^-?[0-9]+\z")
    if pc.any(is_whole).as_py():
        texts = pc.if_else(is_whole, pc.binary_join_element_wise(texts, ".0", ""), texts)
    is_infinite = pc.is_inf(doubles)
    if pc.any(is_infinite).as_py():
        names = pc.if_else(pc.greater(doubles, 0.0), "Infinity", "-Infinity")
        texts = pc.if_else(is_infinite, names, texts)
    return texts


def _texts(values: list[str]) -> pa.StringArray:
    texts = pa.array(values, pa.string())
    escapes = pc.match_substring_regex(texts, r'["\\\x00-\x1f]')
    quoted = pc.binary_join_element_wise(_QUOTE, texts, _QUOTE, "")
    if not pc.any(escapes).as_py():
        return quoted
    escaped = pa.array(map(encode_basestring, texts.filter(escapes).to_pylist()), pa.string())
    return pc.replace_with_mask(quoted, escapes, escaped)


def _nested(values: list[Any]) -> pa.StringArray | None:
    """Return the texts by one call of Python's encoder; None if it would write other ones."""
    if not _are_plain(values):
        return None
    between = chain.from_iterable(zip(values, repeat(_BETWEEN)))
    try:
        text = encode_with_exact_numbers(list(between))
    except (ValueError, RecursionError):
        return None
    return pa.array(text[1 : -len(_END)].split(_SEPARATOR), pa.string())


def _are_plain(values: list[Any]) -> bool:
    """Return whether nested values hold plain ones alone, under names that are texts."""
    for _ in range(_DEPTH_MAX):
        objects = [value for value in values if type(value) is dict]
        lists = [value for value in values if type(value) in (list, tuple)]
        # Python's encoder makes a text of a name that is a number.
        if not _PLAIN_NAMES.issuperset(map(type, chain.from_iterable(objects))):
            return False
        if sum(map(len, objects)) + sum(map(len, lists)) > _COUNT_MAX:
            return False
        inner = chain(chain.from_iterable(map(dict.values, objects)), chain.from_iterable(lists))
        values = list(inner)
        types = set(map(type, values))
        if types <= _PLAIN:
            return True
        if not types <= _GROUPS.keys():
            return False
    return False


_WRITERS: dict[int, Callable[[list[Any]], pa.StringArray | None]] = {
    _BOOL: _bools,
    _INT: _ints,
    _FLOAT: _floats,
    _TEXT: _texts,
    _NESTED: _nested,
}
