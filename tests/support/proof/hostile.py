"""Messages that no client of ours would send, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from spooled_pipelines.wire.methods import Method
from spooled_pipelines.wire.well_known import Struct
from tests.support.raw_calls import METHODS

NAMES = (
    "q",
    "b",
    "w",
    "other",
    ".q",
    "",
    "ü",
    "\0",
    "a" * 300,
    "../x",
    "q\n",
    "\u202e",
    "%s%n",
    "'--",
)
USUAL_NUMBERS = (0, 1, 5, 30)
NUMBERS = (0, 1, -1, 5, 30, 100, 101, 2**31 - 1, -(2**31))
_STRUCT, _TIMESTAMP = "google.protobuf.Struct", "google.protobuf.Timestamp"
_DEEPEST = 6


class Hostile:
    """Draws requests for RPCs; the same seed, the same requests."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        # Ids and leases that the server gave, so that some requests hit what is there.
        self.known = ["00000000-0000-8000-8000-000000000001"]

    def method(self) -> Method:
        return self.random.choice(METHODS)

    def request(self, method: Method) -> bytes:
        """One message, as bytes."""
        kinds: list[Callable[[Method], bytes]] = [
            lambda _: self.random.randbytes(self.random.choice((0, 1, 3, 20, 400))),
            self._valid,
            self._valid,
            self._mutated,
            self._mutated,
            self._with_deep_struct,
            self._with_huge_map,
            self._with_invalid_text,
            self._with_lying_length,
        ]
        return self.random.choice(kinds)(method)

    def requests(self, method: Method) -> list[bytes]:
        """What a stream sends, in an order that may be wrong."""
        return [self.request(method) for _ in range(self.random.choice((0, 1, 1, 2, 5, 12)))]

    def learn(self, answer: Any) -> None:
        """Remember ids that an answer tells."""
        for field, value in answer.ListFields():
            if field.name in ("id", "job_id", "lease_id", "worker_id"):
                self.known = [*self.known[-50:], value]
            elif field.type == FieldDescriptor.TYPE_MESSAGE and field.name in ("job", "jobs"):
                for one in value if field.is_repeated else [value]:
                    self.learn(one)

    def _valid(self, method: Method) -> bytes:
        """Valid as a message; its values need not be."""
        return bytes(self._filled(method.request_class()).SerializeToString())

    def _filled(self, message: Any, depth: int = 0) -> Any:
        chosen = {one.name: self.random.choice(one.fields) for one in message.DESCRIPTOR.oneofs}
        for field in message.DESCRIPTOR.fields:
            one = field.containing_oneof
            if one is not None and field is not chosen[one.name]:
                continue
            if one is not None or self.random.random() < 0.75:
                self._fill(message, field, depth)
        return message

    def _fill(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        name, kind = field.name, field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            getattr(message, name)[self.random.choice(("a", "b"))] = self._text("")
        elif kind is not None and kind.full_name == _STRUCT:
            getattr(message, name).update(
                {"n": self.random.random(), "of": {"text": self._text("")}}
            )
        elif kind is not None and kind.full_name == _TIMESTAMP and not field.is_repeated:
            getattr(message, name).seconds = self.random.choice((0, -1, 2**40, 1_900_000_000))
        elif kind is not None and depth < _DEEPEST:
            place = getattr(message, name)
            for _ in range(self.random.randint(1, 3) if field.is_repeated else 1):
                self._filled(place.add() if field.is_repeated else place, depth + 1)
                if not field.is_repeated:
                    place.SetInParent()
        elif kind is None and field.is_repeated:
            # Columns of a chunk have mostly one length.
            length = self.random.choice((3, 3, 3, 0, 4))
            getattr(message, name).extend(self._scalar(field) for _ in range(length))
        elif kind is None:
            setattr(message, name, self._scalar(field))

    def _scalar(self, field: FieldDescriptor) -> Any:
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text(field.name)
        if field.type == FieldDescriptor.TYPE_BYTES:
            if self.random.random() < 0.3:
                return self.random.randbytes(20)
            payload = Struct()
            payload["n"] = self.random.random()
            return payload.SerializeToString()
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self.random.random() < 0.5
        if field.type == FieldDescriptor.TYPE_ENUM:
            return self.random.choice((0, 1, 6, 99))
        number = self.random.choice(USUAL_NUMBERS if self.random.random() < 0.9 else NUMBERS)
        unsigned = field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64)
        return abs(number) if unsigned else number

    def _text(self, name: str) -> str:
        """Mostly something that fits the field, so that it gets past the first check."""
        if self.random.random() < 0.1:
            return self.random.choice(NAMES)
        usual = {"queue_name": "q", "batch_id": "b", "worker_id": "w", "upload_id": "u"}
        if name in ("lease_id", "unanswered"):
            leases = [one for one in self.known if len(one) == 32]
            return self.random.choice([*leases, f"{self.random.randrange(9):032x}"])
        if name == "job_id":
            return self.random.choice(self.known)
        if name in ("idempotency_key", "idempotency_keys"):
            return str(self.random.randrange(500))
        return usual.get(name, f"{name}-{self.random.randrange(100)}"[:100] if name else "x")

    def _mutated(self, method: Method) -> bytes:
        data = bytearray(self._valid(method) or b"\x0a")
        for _ in range(self.random.randint(1, 4)):
            place = self.random.randrange(len(data))
            how = self.random.randrange(4)
            if how == 0:
                data[place] ^= 1 << self.random.randrange(8)
            elif how == 1:
                data[place:place] = self.random.randbytes(self.random.randint(1, 5))
            elif how == 2:
                del data[place : place + self.random.randint(1, 5)]
            else:
                data[place:place] = data[: self.random.randint(1, 30)]
            data = data or bytearray(1)
        return bytes(data)

    def _with_deep_struct(self, method: Method) -> bytes:
        """Objects in one another, far deeper than any parser follows, in any field."""
        deep = b""
        for _ in range(self.random.choice((20, 33, 100, 1_000))):
            # fields { key: "a" value { struct_value { ... } } }
            value = _field(5, deep)
            deep = _field(1, _field(1, b"a") + _field(2, value))
        return self._valid(method) + self._in_some_field(method, deep)

    def _with_huge_map(self, method: Method) -> bytes:
        count = self.random.choice((10, 1_000, 20_000))
        entries = (
            _field(1, _field(1, str(number).encode()) + _field(2, b"\x1a\x01x"))
            for number in range(count)
        )
        return self._in_some_field(method, b"".join(entries))

    def _with_invalid_text(self, method: Method) -> bytes:
        text = self.random.choice((b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"q\x80"))
        return self._valid(method) + self._in_some_field(method, text)

    def _with_lying_length(self, method: Method) -> bytes:
        length = self.random.choice((2**20, 2**31 - 1, 2**63))
        return (
            self._valid(method) + bytes([self.random.randrange(1, 16) << 3 | 2]) + _varint(length)
        )

    def _in_some_field(self, method: Method, data: bytes) -> bytes:
        """In a field that may hold bytes, or in a field of one of its messages."""
        descriptor = method.request_class.DESCRIPTOR
        while True:
            fields = [field for field in descriptor.fields if _holds_bytes(field)]
            if not fields:
                return _field(1, data)
            field = self.random.choice(fields)
            inner = field.message_type
            if inner is None or self.random.random() < 0.5:
                return _field(field.number, data)
            return _field(field.number, self._in_field_of(inner, data))

    def _in_field_of(self, descriptor: Any, data: bytes) -> bytes:
        field = self.random.choice(descriptor.fields)
        return _field(field.number, data)


def _holds_bytes(field: FieldDescriptor) -> bool:
    kinds = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)
    return field.type in kinds


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
