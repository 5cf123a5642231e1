"""Goal: the C half of the SDK says what its Python twins say, and survives any bytes. Method: the same inputs through both,
chosen at every boundary of the encodings and at random; damaged blobs."""

from __future__ import annotations

import contextlib
import math
import random
import socket
import struct
import threading
from types import SimpleNamespace
from typing import Any

import msgpack
import numpy as np
import pytest

from shoal import _codec, _native, _serialize
from shoal._future import Future
from shoal.executor import _attempt

native = _native.native
pytestmark = pytest.mark.skipif(native is None, reason="SHOAL_NATIVE=0, or not built for this interpreter")

EDGES = [0, 1, 31, 32, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1]
SCALARS: list[Any] = [
    None, True, False, 0.0, -0.0, 1.5, math.inf, -math.inf, 1e308, "", "é", "日本", "\0", "x" * 31, "x" * 32, "x" * 255,
    "x" * 256, "x" * 70_000, b"", b"\xff\0", b"y" * 255, b"y" * 256, b"y" * 70_000,
    *EDGES, *(-edge for edge in EDGES), -(2**63), -33, -32, -129, -32769,
]  # fmt: skip
NOT_SIMPLE: list[Any] = [2**63, -(2**63) - 1, "\ud800", [1], (1,), {"a": 1}, 1j, range(3), type("Int", (int,), {})(3)]


SESSION = SimpleNamespace(released=[])


def pack_call(args: tuple, datum: int = 0, inline_max: int = 1 << 20, task: int = 1) -> bytes | None:
    return native.pack_call(task, _codec.function_part(bytes(range(16))), args, datum, inline_max, Future, SESSION)


def python_dumps(value: Any) -> bytes:
    return _serialize.dumps(value).join()


@pytest.mark.parametrize("value", SCALARS, ids=lambda v: repr(v)[:20])
def test_scalars_are_the_same_blobs_and_values(value: Any) -> None:
    blob = native.dumps(value)
    assert blob == python_dumps(value)
    loaded = native.loads(blob)
    assert type(loaded) is type(value) and loaded == value and repr(loaded)[:100] == repr(value)[:100]


@pytest.mark.parametrize("value", NOT_SIMPLE, ids=lambda v: repr(v)[:20])
def test_what_is_not_simple_is_left_to_python(value: Any) -> None:
    assert native.dumps(value) is None
    assert pack_call((value,)) is None


def test_pickled_blobs_are_loaded() -> None:
    assert native.loads(python_dumps([1, {"a": (2, "b")}])) == [1, {"a": (2, "b")}]


def test_damaged_blobs_are_left_to_the_general_reader() -> None:
    rng = random.Random(7)
    whole = [native.dumps(value) for value in SCALARS if len(native.dumps(value)) < 400]
    for blob in whole:
        for cut in range(len(blob)):
            assert native.loads(blob[:cut]) is NotImplemented
    for _ in range(20_000):
        blob = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 3)):
            blob[rng.randrange(len(blob))] = rng.randrange(256)
        if blob[4] == _serialize.PICKLE:
            continue  # what pickle makes of noise is not ours to test
        try:
            found = native.loads(bytes(blob))
        except UnicodeDecodeError:
            continue
        if found is NotImplemented:
            continue
        assert found == _serialize.loads(bytes(blob)) or found != found
    for junk in (b"", b"SHL1", b"SHL1\x02" + bytes(30), bytes(100), "text", None, 5):
        assert native.loads(junk) is NotImplemented or junk[:4] == b"SHL1"


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 20])
@pytest.mark.parametrize("result", [False, True])
def test_calls_are_what_the_agent_and_executors_understand(count: int, result: bool) -> None:
    rng = random.Random(count)
    args = tuple(rng.choice(SCALARS[:20] + SCALARS[23:]) for _ in range(count))
    identity = bytes(range(16))
    packed = pack_call(args, 77 if result else 0, task=2**40)
    task, function, accesses, options = msgpack.unpackb(packed)
    assert (task, function, options) == (2**40, identity, None)
    if count:
        record = accesses.pop(0)
        assert record[:3] == [0, 0, 0] and record[4:] == ["", [], "*"]
        assert _serialize.loads(record[3][1][0]) == (args, {}, ())
    expected = [msgpack.unpackb(_codec.result_access(77, 0))] if result else []
    assert accesses == expected


def test_a_record_above_the_limit_is_left_to_python() -> None:
    assert pack_call(("x" * 100,), 1, 100) is None
    assert pack_call(("x" * 100,), 1, 200) is not None


def test_futures_are_accesses_of_their_own() -> None:
    first, second = Future(SESSION, 300), Future(SESSION, 2**40)  # type: ignore[arg-type]
    packed = pack_call((first, 5, second, "x"), 77)
    assert packed is not None
    _, _, accesses, _ = msgpack.unpackb(packed)
    expected = [_codec.datum_access(300), _codec.literal_access(python_dumps(5)), _codec.datum_access(2**40)]
    expected += [_codec.literal_access(python_dumps("x")), _codec.result_access(77, 0)]
    assert accesses == [msgpack.unpackb(access) for access in expected]
    assert pack_call((first, [1])) is None
    assert pack_call((first, "x" * 100), 0, 100) is None
    assert pack_call((Future(SimpleNamespace(released=[]), 1),)) is None  # type: ignore[arg-type]


def test_values_of_a_wait() -> None:
    good = [5, 0, "", [1, [native.dumps("v")]], b"", ""]
    failed = [6, 3, "why", [0, [0]], b"", ""]
    shared = [7, 0, "", [2, ["name", 100]], b"", ""]
    seen = []

    def general(result: list) -> str:
        seen.append(result[0])
        return f"general {result[0]}"

    assert native.values(msgpack.packb([good, failed, shared, good]), general) == ["v", "general 6", "general 7", "v"]
    assert native.unpack(msgpack.packb([good, failed])) == [good, failed]
    assert seen == [6, 7]

    def refuses(result: list) -> None:
        raise KeyError(result[0])

    with pytest.raises(KeyError):
        native.values(msgpack.packb([good, failed]), refuses)
    with pytest.raises(TypeError):
        native.values(None, general)
    for junk in (b"", b"\xc0", b"\x91", msgpack.packb([good])[:-1], b"\xdd\xff\xff\xff\xff" + bytes(100)):
        with pytest.raises(ValueError, match="message|array"):
            native.values(junk, lambda result: result)


def argument(name: str, value: list | None = None, direction: int = 0) -> list:
    return [direction, 0, value or [0, [0]], [], name]


@pytest.mark.parametrize("arguments", [
    [],
    [argument("$0", direction=1)],
    [argument("*", [1, [python_dumps(((2, 3), {"c": 4}, ()))]]), argument("$0", direction=1)],
    [argument("*", [1, [python_dumps(([2], {}, ()))]])],
    [argument("*", [1, [python_dumps(((2,), {}, ("write",)))]])],
    [argument("*", [2, ["shared", 10]])],
    [argument("x", [1, [python_dumps(1)]]), argument("$0", direction=1)],
    [argument("$0", direction=1), argument("$1", direction=1)],
    [argument("a"), argument("b"), argument("c")],
    [argument("", [1, [python_dumps(1)]]), argument("", [1, [python_dumps("two")]]), argument("$0", direction=1)],
    [argument("", [1, [python_dumps([3])]])],
    [argument("", [1, [python_dumps(1)]], direction=2)],
    [argument("", [1, [python_dumps(1)]]), argument("", [2, ["shared", 10]])],
    [argument("", [1, [python_dumps(1)]])] * 17,
], ids=str)  # fmt: skip
@pytest.mark.parametrize("result", [None, 7, "text", b"bytes", [1, 2], 2**70])
def test_an_attempt_is_run_the_same_way(arguments: list, result: Any) -> None:
    outcomes = []
    for run in (_attempt._run_in_python, native.run):
        calls: list = []

        def call(*args: Any, calls: list = calls, **kwargs: Any) -> Any:
            calls.append((args, kwargs))
            return result

        runtime = SimpleNamespace(current=None)
        packed = run(call, arguments, 1 << 14, runtime, lambda r, wanted: _attempt.pack_result(r, wanted, None, 1 << 14))
        outcomes.append((packed, calls))
    assert outcomes[0] == outcomes[1]


def test_what_a_function_raises_comes_through_and_leaks_nothing() -> None:
    def call() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        native.run(call, [], 100, SimpleNamespace(current=None), None)


def test_results_that_need_more_go_to_the_general_packer() -> None:
    async def coroutine() -> int:
        return 1

    def generator() -> Any:
        yield 1

    seen = []

    def general(result: Any, wanted: bool) -> bytes:
        seen.append((type(result).__name__, wanted))
        if hasattr(result, "close"):
            result.close()
        return b"packed"

    runtime = SimpleNamespace(current=None)
    wanted = [argument("$0", direction=1)]
    assert native.run(coroutine, wanted, 100, runtime, general) == b"packed"
    assert native.run(generator, wanted, 100, runtime, general) == b"packed"
    assert native.run(lambda: "x" * 200, wanted, 100, runtime, general) == b"packed"
    assert native.run(lambda: 1, [], 100, SimpleNamespace(current="session"), general) == b"packed"
    assert seen == [("coroutine", True), ("generator", True), ("str", True), ("int", False)]


def test_the_result_of_an_attempt_is_packed_the_same_way() -> None:
    for attempt, outputs, run_us in ((0, _codec.NO_OUTPUTS, 0), (2**63, b"\x91\x92\x01\x91\xc4\x00", 12345)):
        assert native.pack_done(attempt, outputs, run_us) == _codec._pack_done_in_python(attempt, outputs, run_us)



# ---- frames ----
MESSAGES = [
    None, True, False, 0, 127, 128, 2**64 - 1, -1, -32, -33, -(2**63), 1.5, "", "é" * 300, b"", bytes(70_000), [],
    [1, [2, [3]]], {}, {"a": [1], 2: b"x"}, list(range(20)), {str(i): i for i in range(20)}, ["x" * 70_000], math.inf,
]  # fmt: skip


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "little") + body


class Peer:
    """The agent's end of a channel."""

    def __init__(self, frame_max: int = 1 << 20) -> None:
        self.socket, self.other = socket.socketpair()
        self.channel = native.Channel(self.other.fileno(), frame_max, 66)

    def sends(self, data: bytes) -> list[Any]:
        """What comes out of the channel, however it is cut."""
        out: list[Any] = []
        sender = threading.Thread(target=self.socket.sendall, args=(data,))
        sender.start()
        while sender.is_alive() or self.channel.wait(0, -1):
            out += self.channel.receive()
        return out


def test_the_channel_decodes_what_msgpack_does() -> None:
    peer = Peer()
    frames = [[kind, message] for kind, message in enumerate(MESSAGES)]
    assert peer.sends(b"".join(frame(msgpack.packb(f, use_bin_type=True)) for f in frames)) == frames
    small = frame(msgpack.packb([1, "x"]))
    for cut in range(1, len(small)):  # a frame in two parts
        assert peer.sends(small[:cut]) + peer.sends(small[cut:]) == [[1, "x"]]
    single = np.float32(0.1)
    assert peer.sends(frame(b"\x92\x01\xca" + struct.pack(">f", single))) == [[1, float(single)]]


def test_results_of_a_wait_stay_packed() -> None:
    results = [[5, 0, "", [1, [native.dumps("v")]], b"", ""]]
    ((kind, (request, packed)),) = Peer().sends(frame(msgpack.packb([66, [2**40, results]])))
    assert (kind, request, native.unpack(packed)) == (66, 2**40, results)
    assert native.values(packed, None) == ["v"]


def test_bytes_that_are_no_frames_are_refused() -> None:
    rng = random.Random(3)
    whole = [msgpack.packb([1, message], use_bin_type=True) for message in MESSAGES if len(msgpack.packb(message)) < 500]
    for body in whole:
        for cut in range(1, len(body)):
            with pytest.raises(ValueError, match="frame|message"):
                Peer().sends(frame(body[:cut]))
    for _ in range(3_000):
        body = bytearray(rng.choice(whole))
        body[rng.randrange(len(body))] = rng.randrange(256)
        with contextlib.suppress(ValueError, UnicodeDecodeError, TypeError):
            Peer().sends(frame(bytes(body)))
    for junk in (b"\xc1", b"\x91\x01", b"\x93\x01\x02\x03", b"\x92\x01\xd4\x00\x00", b"\x92\x01" + b"\x91" * 100 + b"\x01"):
        with pytest.raises(ValueError, match="frame|message"):
            Peer().sends(frame(junk))
    with pytest.raises(ValueError, match="maximum is 100"):
        Peer(frame_max=100).sends(frame(bytes(101)))


def test_the_end_of_the_stream_is_told() -> None:
    peer = Peer()
    assert peer.channel.wait(0, -1) == 0
    assert peer.channel.receive() == []
    peer.socket.close()
    assert peer.channel.wait(-1, -1) == 1
    with pytest.raises(EOFError):
        peer.channel.receive()


def test_a_wait_watches_another_descriptor_too() -> None:
    peer, other = Peer(), Peer()
    other.socket.send(b"x")
    assert peer.channel.wait(-1, other.other.fileno()) == 2
    peer.socket.send(b"x")
    assert peer.channel.wait(-1, other.other.fileno()) == 3
