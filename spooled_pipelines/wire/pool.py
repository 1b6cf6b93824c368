"""Our own descriptor pool.

The official SDK registers `spooled.v1` in protobuf's default pool, where a message name can
exist only once. Both packages are imported in one Airflow process, so our messages live in a
pool of their own, filled from the compiled descriptor set beside this file.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_files = descriptor_pb2.FileDescriptorSet.FromString(
    (resources.files(__package__) / "descriptors.binpb").read_bytes()
)

POOL = descriptor_pool.DescriptorPool()
for _file in _files.file:
    POOL.AddSerializedFile(_file.SerializeToString())

# The full name of every service of our proto files.
SERVICES = tuple(
    f"{_file.package}.{_service.name}" for _file in _files.file for _service in _file.service
)


def message_class(full_name: str) -> Any:
    """Return the class of a message, for example `google.protobuf.Struct`, in our pool."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))


def names_of_file(proto: str) -> dict[str, Any]:
    """Return what a generated module for this proto file would define: messages and enums."""
    file = POOL.FindFileByName(proto)
    names: dict[str, Any] = {
        name: message_factory.GetMessageClass(message)
        for name, message in file.message_types_by_name.items()
    }
    for name, enum in file.enum_types_by_name.items():
        names[name] = _enum_wrapper(enum)
        names.update({value.name: value.number for value in enum.values})
    return names


def _enum_wrapper(enum: Any) -> Any:
    from google.protobuf.internal import enum_type_wrapper

    return enum_type_wrapper.EnumTypeWrapper(enum)
