"""`google.protobuf`'s own messages, as they are in our pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import ListValue, Struct, Value
    from google.protobuf.timestamp_pb2 import Timestamp
else:
    from spooled_pipelines.wire.pool import message_class

    ListValue = message_class("google.protobuf.ListValue")
    Struct = message_class("google.protobuf.Struct")
    Timestamp = message_class("google.protobuf.Timestamp")
    Value = message_class("google.protobuf.Value")

__all__ = ["ListValue", "Struct", "Timestamp", "Value"]
