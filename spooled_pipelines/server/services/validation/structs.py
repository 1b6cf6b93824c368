"""Payloads and results as bytes: validated once, then stored and returned as they came."""

from __future__ import annotations

import contextlib
import json
import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from spooled_pipelines.server.core.errors import invalid, why_not
from spooled_pipelines.server.core.protobuf import varint
from spooled_pipelines.wire import limits
from spooled_pipelines.wire.batch_v1 import JobChunk
from spooled_pipelines.wire.pool import POOL
from spooled_pipelines.wire.well_known import Struct, Value

# One byte of a Struct is at most six characters of JSON (a control character in a string), and a
# number's nine bytes are at most twenty-five: a payload below this size is small enough.
SURELY_SMALL_BYTES = limits.PAYLOAD_MAX_BYTES // 6
# A number in a list is four bytes of JSON at least and eleven of a Struct; nothing else is less.
_SURELY_LARGE_BYTES = 3 * limits.PAYLOAD_MAX_BYTES
# No payload's size is told beyond this.
_COUNTED_TO_BYTES = limits.PAYLOAD_MAX_BYTES + (64 << 10)
# Payloads of larger chunks are unpacked one by one: the parser makes sixty bytes of one.
PARSED_AT_ONCE_BYTES = 2 << 20
_PACKAGE = "spooled_pipelines.server"
# The tag of a number, and eight bytes that end as those of infinity and of what is not a number;
# whatever else looks like that is looked at field by field.
_NOT_FINITE = re.compile(rb"\x11.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)


def _checking_messages() -> tuple[Any, Any]:
    """Return EnqueueBatchRequest with its payloads as Structs, and a Struct two levels down.

    The first lets one call of the parser check all payloads of a chunk. In both, a payload is as
    deep as it is in the messages that hand it out (a job within an answer), so that what passes
    here never is too deep for the parser of a worker.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="spooled_pipelines/server/checking.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=["google/protobuf/struct.proto"],
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    many, one = kinds.LABEL_REPEATED, kinds.LABEL_OPTIONAL
    for name, number, label, kind in (
        ("Structs", 2, many, ".google.protobuf.Struct"),
        ("ChunkRequest", 2, one, f".{_PACKAGE}.Structs"),
        ("Nested", 1, one, f".{_PACKAGE}.Structs"),
    ):
        field = file.message_type.add(name=name).field.add()
        field.name, field.number, field.type_name = "value", number, kind
        field.label = label
        field.type = kinds.TYPE_MESSAGE
    pool = DescriptorPool()
    pool.AddSerializedFile(POOL.FindFileByName("google/protobuf/struct.proto").serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    find = pool.FindMessageTypeByName
    return (
        message_factory.GetMessageClass(find(f"{_PACKAGE}.ChunkRequest")),
        message_factory.GetMessageClass(find(f"{_PACKAGE}.Nested")),
    )


_CHUNK_REQUEST, _NESTED = _checking_messages()


def check_object(name: str, data: bytes) -> None:
    """Raise RefusedError INVALID_ARGUMENT for what is not a Struct, too deep, or too large.

    So too for fields that a Struct does not have, and numbers that JSON cannot write.
    What is larger than `SURELY_SMALL_BYTES` takes so long that it belongs into a thread.
    """
    if len(data) > _SURELY_LARGE_BYTES:
        raise invalid(
            f"{name} is {len(data)} bytes, and at most 1048576 (1 MiB) as JSON are allowed"
        )
    inner = b"\x12" + varint(len(data)) + data
    whole = b"\x0a" + varint(len(inner)) + inner
    try:
        nested = _NESTED.FromString(whole)
    except DecodeError:
        raise invalid(
            f"{name} is not a google.protobuf.Struct, or nests more than 32 objects in one another"
        ) from None
    size = nested.ByteSize()
    nested.DiscardUnknownFields()
    if nested.ByteSize() != size:
        raise invalid(f"{name} has fields that no google.protobuf.Struct has")
    # A tag that is written longer than need be hides a number from the search.
    if len(data) <= SURELY_SMALL_BYTES and size == len(whole) and not _may_be_not_finite(data):
        return
    try:
        size = _COUNTED_TO_BYTES - _room_after_object(Struct.FromString(data), _COUNTED_TO_BYTES)
    except ValueError as error:
        raise invalid(f"{name} holds {error}, which JSON cannot write; send null or text") from None
    if size > limits.PAYLOAD_MAX_BYTES:
        shown = f"more than {_COUNTED_TO_BYTES}" if size > _COUNTED_TO_BYTES else size
        raise invalid(f"{name} is {shown} bytes as JSON, and at most 1048576 (1 MiB) are allowed")


def check_results(results: Sequence[bytes]) -> list[tuple[int, str]]:
    """Return the invalid results of a chunk of outcomes: (place, message)."""
    if not results:
        return []
    chunk = JobChunk(payloads=results).SerializeToString()
    return check_chunk_request(b"\x12" + varint(len(chunk)) + chunk, results, "result")


def check_chunk_request(
    request: bytes, payloads: Sequence[bytes], name: str = "payload"
) -> list[tuple[int, str]]:
    """Return the invalid payloads of an EnqueueBatchRequest: (place, message)."""
    suspects = list(range(len(payloads)))
    if len(request) <= PARSED_AT_ONCE_BYTES:
        with contextlib.suppress(DecodeError):
            chunk = _CHUNK_REQUEST.FromString(request)
            chunk.DiscardUnknownFields()
            # What is written again without unknown fields, and is as long, had none.
            if chunk.value.ByteSize() == _written_size(payloads):
                suspects = []
                if len(request) > SURELY_SMALL_BYTES or _may_be_not_finite(request):
                    suspects = [
                        at
                        for at, data in enumerate(payloads)
                        if len(data) > SURELY_SMALL_BYTES or _may_be_not_finite(data)
                    ]
    check = partial(check_object, name)
    reasons = ((place, why_not(check, payloads[place])) for place in suspects)
    return [(place, reason) for place, reason in reasons if reason is not None]


def _written_size(payloads: Sequence[bytes]) -> int:
    # In front of each are its tag and its length, a byte for seven bits.
    lengths = sorted(map(len, payloads))
    longer = (len(lengths) - bisect_left(lengths, 1 << bits) for bits in (7, 14, 21))
    return 2 * len(lengths) + sum(lengths) + sum(longer)


def _may_be_not_finite(data: bytes) -> bool:
    return _NOT_FINITE.search(data) is not None


def _room_after_object(value: Struct, room: int) -> int:
    """Return what is left of so many bytes behind the object as JSON; below zero: too little.

    It stops there, so that what is far too large takes no longer than what just fits.
    """
    fields = value.fields
    # Braces, and of each field the quotes, the colon, the comma and two characters.
    room -= 2 + 6 * len(fields)
    if room < 0:
        return room
    for name, item in fields.items():
        room = _room_after(item, room + 4 - _text_size(name))
        if room < 0:
            break
    return room + bool(fields)


def _room_after(value: Value, room: int) -> int:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _room_after_object(value.struct_value, room)
    if kind == "list_value":
        items = value.list_value.values
        # Brackets, and of each item two characters and the comma.
        room -= 2 + 3 * len(items)
        for item in items:
            if room < 0:
                return room
            room = _room_after(item, room + 2)
        return room + bool(items)
    if kind == "string_value":
        return room - _text_size(value.string_value)
    if kind == "number_value":
        number = value.number_value
        if not math.isfinite(number):
            raise ValueError(number)
        return room - len(repr(number))
    return room - (5 if kind == "bool_value" and not value.bool_value else 4)


def _text_size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())
