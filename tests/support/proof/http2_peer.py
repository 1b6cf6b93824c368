"""A peer that speaks HTTP/2 as it likes: half calls, shut windows, calls that are reset at once."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 8, 9
_PING, _GOAWAY = 6, 7
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW = 4
_FRAME_MAX = 16_384

Headers = Sequence[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes([kind, flags])
        + struct.pack(">I", stream)
        + payload
    )


def hpack_integer(value: int, prefix: int = 7) -> bytes:
    most = (1 << prefix) - 1
    if value < most:
        return bytes([value])
    out, value = bytearray([most]), value - most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def literal(name: str, value: str) -> bytes:
    """A header that no table keeps."""
    sides = (side.encode() for side in (name, value))
    return b"\0" + b"".join(hpack_integer(len(side)) + side for side in sides)


def message(data: bytes, *, packed: bool = False) -> bytes:
    """A message as gRPC frames it."""
    return bytes([packed]) + struct.pack(">I", len(data)) + data


class Peer:
    """One connection; a context manager. `window` is how much of each answer it takes in."""

    def __init__(self, address: str, *, window: int = 1 << 20) -> None:
        host, _, port = address.rpartition(":")
        self._authority = address
        self._socket = socket.create_connection((host, int(port)), 10)
        self._socket.setblocking(False)
        settings = struct.pack(">HI", _INITIAL_WINDOW, window)
        self._out = bytearray(PREFACE + frame(SETTINGS, 0, 0, settings))
        self._in = bytearray()
        self._next = 1
        # What the server takes in of the connection, and of a new stream, before it is read.
        self._room, self.stream_room = 65_535, 65_535
        self._rooms: dict[int, int] = {}
        # What each stream still has to send, and whether it ends then.
        self._left: dict[int, tuple[memoryview, bool]] = {}
        self.said = bytearray()
        self.ended: set[int] = set()
        self.is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(
        self,
        path: str,
        body: bytes = b"",
        *,
        key: str | None = None,
        packed: bool = False,
        end: bool = True,
    ) -> int:
        """Begin a call that sends `body` as far as it may; return its stream."""
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", self._authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        if packed:
            headers.append(("grpc-encoding", "gzip"))
        if key is not None:
            headers.append(("x-api-key", key))
        stream = self.begin(b"".join(literal(name, value) for name, value in headers))
        self.send(stream, body, end=end)
        return stream

    def begin(self, block: bytes) -> int:
        """Send headers as they are."""
        stream, self._next = self._next, self._next + 2
        parts = [block[at : at + _FRAME_MAX] for at in range(0, len(block), _FRAME_MAX)]
        for place, part in enumerate(parts):
            flags = _END_HEADERS if place == len(parts) - 1 else 0
            self._out += frame(CONTINUATION if place else HEADERS, flags, stream, part)
        self._rooms[stream] = self.stream_room
        return stream

    def send(self, stream: int, body: bytes, *, end: bool = False) -> None:
        self._left[stream] = (memoryview(body), end)

    def end(self, stream: int) -> None:
        self._out += frame(DATA, _END_STREAM, stream, b"")

    def reset(self, stream: int) -> None:
        self._out += frame(RST_STREAM, 0, stream, struct.pack(">I", 8))

    def run(self, seconds: float, *, until_ended: int | None = None) -> None:
        """Send and take in for so long, or until so many calls have ended."""
        until = time.monotonic() + seconds
        while not self.is_closed and time.monotonic() < until:
            self._fill()
            out = [self._socket] if self._out else []
            readable, writable, _ = select.select([self._socket], out, [], 0.05)
            try:
                if writable:
                    del self._out[: self._socket.send(self._out)]
                if readable:
                    self._take(self._socket.recv(1 << 18))
            except OSError:
                self.is_closed = True
            if until_ended is not None and len(self.ended) >= until_ended:
                return

    @property
    def has_sent_all(self) -> bool:
        return not self._out and not self._left

    def _fill(self) -> None:
        for stream, (left, end) in list(self._left.items()):
            if stream in self.ended:
                del self._left[stream]
                continue
            at = 0
            while at < len(left) and len(self._out) < 1 << 20:
                size = min(len(left) - at, self._room, self._rooms[stream], _FRAME_MAX)
                if size <= 0:
                    break
                is_last = end and at + size == len(left)
                part = bytes(left[at : at + size])
                self._out += frame(DATA, _END_STREAM if is_last else 0, stream, part)
                self._room -= size
                self._rooms[stream] -= size
                at += size
            if at < len(left):
                self._left[stream] = (left[at:], end)
            else:
                del self._left[stream]

    def _take(self, data: bytes) -> None:
        if not data:
            self.is_closed = True
        self._in += data
        while len(self._in) >= 9:
            size = int.from_bytes(self._in[:3], "big")
            if len(self._in) < 9 + size:
                return
            kind, flags = self._in[3], self._in[4]
            stream = int.from_bytes(self._in[5:9], "big") & 0x7FFFFFFF
            payload = bytes(self._in[9 : 9 + size])
            del self._in[: 9 + size]
            self._took(kind, flags, stream, payload)

    def _took(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & _ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack_from(">HI", payload, at)
                if name == _INITIAL_WINDOW:
                    grown, self.stream_room = value - self.stream_room, value
                    self._rooms = {one: room + grown for one, room in self._rooms.items()}
            self._out += frame(SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self._out += frame(_PING, _ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            if stream:
                self._rooms[stream] += more
            else:
                self._room += more
        elif kind in (HEADERS, RST_STREAM):
            self.said += payload
            if kind == RST_STREAM or flags & _END_STREAM:
                self.ended.add(stream)
        elif kind == DATA:
            self.said += payload
            if payload:
                self._out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload)))
        elif kind == _GOAWAY:
            self.said += payload[8:]


def close_all(peers: Iterable[Peer]) -> None:
    for peer in peers:
        peer.__exit__()
