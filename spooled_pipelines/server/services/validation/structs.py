"""Payloads and results as bytes: validated once, then stored and returned as they came."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from spooled_pipelines.server.core.errors import invalid, why_not
from spooled_pipelines.server.core.protobuf import varint
from spooled_pipelines.wire import limits
from spooled_pipelines.wire.pool import POOL
from spooled_pipelines.wire.well_known import Struct

# One byte of a Struct is at most six characters of JSON (a control character in a string), and a
# number's nine bytes are at most twenty-five: a payload below this size is small enough.
_SURELY_SMALL_BYTES = limits.PAYLOAD_MAX_BYTES // 6
_PACKAGE = "spooled_pipelines.server"


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
    """Raise RefusedError INVALID_ARGUMENT for what is not a Struct, too deep, or too large."""
    inner = b"\x12" + varint(len(data)) + data
    try:
        _NESTED.FromString(b"\x0a" + varint(len(inner)) + inner)
    except DecodeError:
        raise invalid(
            f"{name} is not a google.protobuf.Struct, or nests more than 32 objects in one another"
        ) from None
    if len(data) <= _SURELY_SMALL_BYTES:
        return
    size = _json_size(data)
    if size > limits.PAYLOAD_MAX_BYTES:
        raise invalid(f"{name} is {size} bytes as JSON, and at most 1048576 (1 MiB) are allowed")


def check_chunk_request(request: bytes, payloads: Sequence[bytes]) -> list[tuple[int, str]]:
    """Return the invalid payloads of an EnqueueBatchRequest: (place, message)."""
    try:
        _CHUNK_REQUEST.FromString(request)
        suspects = [place for place, data in enumerate(payloads) if len(data) > _SURELY_SMALL_BYTES]
    except DecodeError:
        suspects = list(range(len(payloads)))
    reasons = ((place, why_not(_check_payload, payloads[place])) for place in suspects)
    return [(place, reason) for place, reason in reasons if reason is not None]


def _check_payload(data: bytes) -> None:
    check_object("payload", data)


def _json_size(data: bytes) -> int:
    value = json_format.MessageToDict(Struct.FromString(data))
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
