"""Messages to frames and back.

Pure Python, with the hot messages (Submit, Done) packed by hand: constant parts are computed once, so that a small
task costs a few byte-string joins. What costs most has a twin in C (shoal/_native.py).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgpack

from shoal._native import native
from shoal._protocol import AccessKind, Direction

_U32_LE = struct.Struct("<I")
_U16_BE = struct.Struct(">H")
_U32_BE = struct.Struct(">I")
_U64_BE = struct.Struct(">Q")

pack_u64 = _U64_BE.pack

# autoreset packers are not shared between threads that may interleave: pack() of plain data never releases the GIL.
_pack = msgpack.Packer(use_bin_type=True).pack
pack_value = _pack  # any msgpack-able Python value


def unpack(body: Any) -> Any:
    """One msgpack value; bin → bytes, str → str."""
    return msgpack.unpackb(body, max_array_len=1 << 20, max_map_len=1 << 20, strict_map_key=False)


def unpack_value(body: Any) -> Any:
    """One msgpack value of any size: what another language stored. Its length bounds what it may claim to hold."""
    return msgpack.unpackb(body, strict_map_key=False)


def frame(kind: int, message: list) -> bytes:
    """A whole frame of `message`."""
    body = _pack([int(kind), message])
    return _U32_LE.pack(len(body)) + body


def array_header(items: int) -> bytes:
    """msgpack's header of an array."""
    if items < 16:
        return bytes((0x90 | items,))
    if items < 1 << 16:
        return b"\xdc" + _U16_BE.pack(items)
    return b"\xdd" + _U32_BE.pack(items)


def binary(data: bytes) -> bytes:
    """msgpack's bin of `data`."""
    size = len(data)
    if size < 256:
        return bytes((0xC4, size)) + data
    if size < 1 << 16:
        return b"\xc5" + _U16_BE.pack(size) + data
    return b"\xc6" + _U32_BE.pack(size) + data


def batch_frame(kind: int, packed_items: list[bytes]) -> bytes:
    """A frame of a message with one field, an array whose items are packed already (Submit, Done)."""
    body = b"".join((_pack([int(kind), [None]])[:-1], array_header(len(packed_items)), *packed_items))
    return _U32_LE.pack(len(body)) + body


# ---- calls: TaskCall{task, function, accesses, options} ----
CALL_HEAD = b"\x94\xcf"  # array of 4, then the task number as u64
NO_OPTIONS = b"\xc0"


def function_part(function_id: bytes) -> bytes:
    """The function of a call."""
    return binary(function_id)


# Access{direction, kind, datum, value, path, items, name}
_RECORD_HEAD = bytes((0x97, Direction.IN, AccessKind.LITERAL, 0, 0x92, 1, 0x91))
_RECORD_TAIL = b"\xa0\x90\xa1*"
_RESULT_HEAD = bytes((0x97, Direction.OUT, AccessKind.DATUM, 0xCF))
_RESULT_TAILS = tuple(b"\x92\x00\x91\x00\xa0\x90" + _pack(f"${index}") for index in range(256))


def record_access(blob: bytes) -> bytes:
    """The call record as an inline literal."""
    return _RECORD_HEAD + binary(blob) + _RECORD_TAIL


_DATUM_HEAD = bytes((0x97, Direction.IN, AccessKind.DATUM, 0xCF))
_DATUM_TAIL = b"\x92\x00\x91\x00\xa0\x90\xa0"


def literal_access(blob: bytes) -> bytes:
    """An untracked parameter by itself, inline."""
    return _RECORD_HEAD + binary(blob) + b"\xa0\x90\xa0"


def datum_access(datum: int) -> bytes:
    """A datum that is only read."""
    return _DATUM_HEAD + _U64_BE.pack(datum) + _DATUM_TAIL


def result_access(datum: int, index: int) -> bytes:
    """Result number `index` as an OUT datum."""
    tail = _RESULT_TAILS[index] if index < 256 else b"\x92\x00\x91\x00\xa0\x90" + _pack(f"${index}")
    return _RESULT_HEAD + _U64_BE.pack(datum) + tail


def access(direction: int, kind: int, *, datum: int = 0, value: list | None = None, path: str = "", name: str = "") -> bytes:
    """Any access without items."""
    return _pack([int(direction), int(kind), datum, value or [0, [0]], path, [], name])


# ---- results: AttemptResult{attempt, outcome, message, error, outputs, run_us} ----
RESULT_HEAD = b"\x96\xcf"
DONE_MIDDLE = b"\x00\xa0\xc4\x00"  # outcome done, no message, no error
NO_OUTPUTS = b"\x90"


def _pack_done_in_python(attempt: int, outputs: bytes, run_us: int) -> bytes:
    """The twin of native.pack_done."""
    return b"".join((RESULT_HEAD, _U64_BE.pack(attempt), DONE_MIDDLE, outputs, b"\xcf", _U64_BE.pack(run_us)))


# The packed AttemptResult of an attempt that returned; its outputs are packed already.
pack_done: Callable[[int, bytes, int], bytes] = _pack_done_in_python if native is None else native.pack_done


def inline_value(blob: bytes) -> bytes:
    """client::Value Inline."""
    return b"\x92\x01\x91" + binary(blob)


class FrameReader:
    """Cuts a byte stream into decoded frames."""

    def __init__(self, frame_max: int) -> None:
        self._buffer = bytearray()
        self._frame_max = frame_max

    def feed(self, data: bytes) -> list[Any]:
        """The frames that `data` completes, each `[kind, message]`. ValueError when the stream is not ours."""
        buffer = self._buffer
        buffer += data
        frames = []
        start = 0
        available = len(buffer)
        view = memoryview(buffer)
        try:
            while available - start >= 4:
                (size,) = _U32_LE.unpack_from(view, start)
                if size > self._frame_max:
                    raise ValueError(f"the agent sent a frame of {size} bytes; the maximum is {self._frame_max}")
                end = start + 4 + size
                if end > available:
                    break
                frames.append(unpack(view[start + 4 : end]))
                start = end
        finally:
            view.release()
        if start:
            del buffer[:start]
        return frames
