"""What every peer's program does: start the runtime, measure it, end it, print one JSON object.

A program is `run_NAME.py` with a class derived from Peer and `main(ThatClass)` at its end; it runs in the peer's own
virtual environment. Its driver is this process; the runtime gets two executors.

    python run_NAME.py '{"tasks": 200, "serial": 10, "chain": 50, "fan": 50, "spawn": 20, "array_bytes": 1000000,
                         "asked_ns": 0, "directory": "/tmp/x"}'
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes

EXECUTORS = 2
WARM_TASKS = 20
PUTS = 3
USES = 5


class Missing(Exception):
    """The runtime has no such thing; the text says what it has instead."""


class Peer:
    """One runtime. Methods wait for what they start and return what the tasks returned, which is checked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory  # of its own, empty; removed by whoever gave it

    def version(self) -> str:
        """Of the runtime."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What a host needs once, before the first start; not measured."""

    def start(self) -> None:
        """Starts the runtime from nothing, with two executors."""
        raise NotImplementedError

    def settle(self) -> None:
        """Waits until all executors are there: the first result may come before; not measured."""

    def stop(self) -> None:
        """Ends what `start` started; only called when that succeeded."""
        raise NotImplementedError

    def results(self, count: int) -> list[int]:
        """`count` independent tasks; their results, 0, 1, 2, …"""
        raise NotImplementedError

    def once(self, value: int) -> int:
        """One task there and back; its result, `value`."""
        raise NotImplementedError

    def chain(self, count: int) -> int:
        """`count` tasks that each add one to the result of the one before; the last result."""
        raise NotImplementedError

    def fan_in(self, count: int) -> int:
        """`count` tasks that each add one to their number, and a task with the sum of their results; that sum."""
        raise NotImplementedError

    def put(self, array: Any) -> Any:
        """Hands a large array to the runtime once; what stands for it in calls."""
        raise Missing("no store for values")

    def use(self, handle: Any) -> int:
        """A task that reads the array's ends; their sum."""
        raise Missing("no store for values")

    def spawn(self, count: int) -> None:
        """`count` independent tasks that are the program /bin/true."""
        raise Missing("no tasks that are programs")


def percentile(values: list[float], percent: int) -> float:
    """Of values in any order."""
    return sorted(values)[(len(values) - 1) * percent // 100]


def expect(what: str, value: Any, right: Any) -> None:
    """A runtime that computes something else is not measured."""
    if value != right:
        raise AssertionError(f"{what}: the result is {str(value)[:80]} and not {str(right)[:80]}")


def seconds(action: Callable[[], Any], what: str, right: Any) -> float:
    """How long it takes; its result is checked."""
    begin = time.perf_counter()
    value = action()
    passed = time.perf_counter() - begin
    expect(what, value, right)
    return passed


class Measurement:
    """The figures of one start of one runtime."""

    def __init__(self, peer: Peer, sizes: dict[str, Any]) -> None:
        self.peer = peer
        self.sizes = sizes
        self.figures: dict[str, float] = {}
        self.missing: dict[str, str] = {}

    def optional(self, keys: tuple[str, ...], action: Callable[[], None]) -> None:
        """Runs `action`; what the runtime does not have is noted for `keys`."""
        try:
            action()
        except Missing as missing:
            for key in keys:
                self.missing[key] = str(missing)

    def all(self) -> None:
        """Everything, of a runtime that has just given its first result."""
        self.peer.settle()
        expect("warm-up", self.peer.results(WARM_TASKS), list(range(WARM_TASKS)))
        self.many()
        self.serial()
        self.optional(("chain",), self.chain)
        self.optional(("fan_in",), self.fan_in)
        self.optional(("put", "use"), self.array)
        self.optional(("spawn",), self.spawn)

    def many(self) -> None:
        """Independent tasks: how many a second, and what one costs."""
        count = self.sizes["tasks"]
        cpu = processes.cpu_seconds()
        passed = seconds(lambda: self.peer.results(count), "tasks", list(range(count)))
        self.figures["cpu"] = (processes.cpu_seconds() - cpu) / count * 1e6
        self.figures["rate"] = count / passed

    def serial(self) -> None:
        """One task at a time."""
        times = [seconds(functools.partial(self.peer.once, i), "one task", i) for i in range(self.sizes["serial"])]
        self.figures["p50"] = percentile(times, 50) * 1e3
        self.figures["p99"] = percentile(times, 99) * 1e3

    def chain(self) -> None:
        """Tasks that wait for each other."""
        count = self.sizes["chain"]
        self.figures["chain"] = seconds(lambda: self.peer.chain(count), "chain", count)

    def fan_in(self) -> None:
        """Tasks that one waits for."""
        count = self.sizes["fan"]
        self.figures["fan_in"] = seconds(lambda: self.peer.fan_in(count), "fan-in", count * (count + 1) // 2)

    def array(self) -> None:
        """A large array, put once, read by a task on this host."""
        if type(self.peer).put is Peer.put:
            self.peer.put(None)  # says that there is none, without numpy
        import numpy

        for _ in range(2 * EXECUTORS):  # all executors have numpy loaded
            self.peer.use(self.peer.put(numpy.full(1000, 7, dtype=numpy.uint8)))
        puts, uses = [], []
        handle: Any = None
        for _ in range(PUTS):
            array = numpy.full(self.sizes["array_bytes"], 7, dtype=numpy.uint8)
            handle = None  # the runtime may use the room again
            begin = time.perf_counter()
            handle = self.peer.put(array)
            puts.append(time.perf_counter() - begin)
        for _ in range(USES):
            uses.append(seconds(lambda: self.peer.use(handle), "array", 14))
        self.figures["put"] = percentile(puts, 50) * 1e3
        self.figures["use"] = percentile(uses, 50) * 1e3

    def spawn(self) -> None:
        """Tasks that are programs."""
        count = self.sizes["spawn"]
        self.peer.spawn(1)  # warm-up
        self.figures["spawn"] = count / seconds(lambda: self.peer.spawn(count), "programs", None)


def measured(kind: type[Peer], sizes: dict[str, Any], alone: bool) -> dict[str, Any]:
    """Starts the runtime, measures it and ends it, and what it left running. `alone`: in a network of its own."""
    peer = kind(Path(sizes["directory"]))
    try:
        begin = time.monotonic_ns()
        peer.prepare()
        prepared_ns = time.monotonic_ns() - begin
        peer.start()
        try:
            expect("first task", peer.once(0), 0)
            cold = (time.monotonic_ns() - sizes["asked_ns"] - prepared_ns) / 1e9
            if not alone:
                refuse_open_addresses()
            measurement = Measurement(peer, sizes)
            measurement.figures["cold"] = cold
            measurement.all()
            return {"version": peer.version(), "figures": measurement.figures, "missing": measurement.missing}
        finally:
            stop(peer)
    finally:
        processes.end_below()


def stop(peer: Peer) -> None:
    """Ends the runtime. When that fails, what it measured stands, and what it left running is ended after this."""
    try:
        peer.stop()
    except Exception:
        traceback.print_exc()


def refuse_open_addresses() -> None:
    """A benchmark opens nothing to the network."""
    found = processes.open_addresses()
    if found:
        raise RuntimeError(f"it listens on {', '.join(found)}, and this user may not make a network of its own for it")


def main(kind: type[Peer]) -> None:
    """The program. Everything the runtime prints goes to standard error, so that the JSON object stands alone."""
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    processes.end_with_parent()
    processes.adopt_orphans()
    sizes = json.loads(sys.argv[1])
    begin = time.monotonic_ns()
    alone = processes.leave_network()
    sizes["asked_ns"] += time.monotonic_ns() - begin  # no part of a cold start
    try:
        result = measured(kind, sizes, alone)
    except Exception as error:
        traceback.print_exc()
        result = {"error": f"{type(error).__name__}: {error}"}
    os.write(out, json.dumps(result).encode() + b"\n")
    sys.exit("error" in result)
