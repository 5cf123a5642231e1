"""What the Python SDK itself costs per no-op task: submission, and execution, each against a trivial peer.

    python3 tests/conformance/bench_sdk.py [--tasks 50000] [--repeats 5]

Submission: the driver's CPU time per call while a sink process discards what it sends. Execution: the executor's CPU
time and the wall time per attempt while this process feeds it batches of 64. Medians of repeats. No pass or fail.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "sdk", "python"))

import shoal  # noqa: E402
from shoal import _codec, _function, _runtime, _serialize  # noqa: E402
from shoal._protocol import Kind  # noqa: E402


def _noop():
    pass


def _identity(x):
    return x


noop = shoal.task()(_noop)
identity = shoal.task(returns=1)(_identity)


def sink(path: str, arena: str, ready: int) -> None:
    """An agent that welcomes one driver and reads on."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    os.write(ready, b"x")
    peer, _ = listener.accept()
    peer.recv(1 << 16)
    peer.sendall(_codec.frame(Kind.WELCOME, [1, bytes(16), bytes(16), arena, 16384, 1]))
    while peer.recv(1 << 18):
        pass
    os._exit(0)


def submit_costs(directory: str, tasks: int, repeats: int) -> dict[str, float]:
    """Microseconds of CPU time per call, by kind of call."""
    path = os.path.join(directory, "sink")
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        sink(path, directory, write_end)
    os.read(read_end, 1)
    shoal.connect(path)
    future = identity(0)
    calls = {
        "noop()": noop,
        "identity(1)": lambda: identity(1),
        "identity('text'), future kept": lambda kept=[]: kept.append(identity("text")),
        "identity(future)": lambda: identity(future),
        "identity([1, 2, 3])": lambda: identity([1, 2, 3]),
        "identity(x=1)": lambda: identity(x=1),
    }
    costs = {}
    for name, call in calls.items():
        call()
        samples = []
        for _ in range(repeats):
            begin = time.process_time()
            for _ in range(tasks):
                call()
            samples.append((time.process_time() - begin) / tasks * 1e6)
        costs[name] = statistics.median(samples)
    _runtime.current.close()
    _runtime.current = None
    os.waitpid(child, 0)
    return costs


def execute_costs(directory: str, tasks: int, repeats: int) -> dict[str, tuple[float, float]]:
    """(CPU, wall) microseconds per attempt, by kind of attempt."""
    path = os.path.join(directory, "feeder")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    python_path = os.pathsep.join([os.path.join(ROOT, "sdk", "python"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "SHOAL_SOCKET": path, "PYTHONPATH": python_path}
    process = subprocess.Popen([sys.executable, "-m", "shoal.executor"], env=environment)
    peer, _ = listener.accept()
    reader = _codec.FrameReader(1 << 26)
    peer.recv(1 << 16)
    peer.sendall(_codec.frame(Kind.WELCOME, [1, bytes(16), bytes(16), directory, 16384, 1]))
    literal = [0, 0, [1, [_serialize.dumps(([1], {}, ())).join()]], [], "*"]
    kinds = {"noop()": (_noop, []), "identity(1)": (_identity, [literal, [1, 1, [0, [0]], [], "$0"]])}
    costs = {}
    for name, (function, arguments) in kinds.items():
        ident = name.encode().ljust(16)
        payload = _function.pack_function(function, {}, name)
        peer.sendall(_codec.frame(Kind.FUNCTION, [ident, name, "python", payload, []]))
        batch = [[n, bytes(16), n, 1, ident, arguments, 0, [], "", True] for n in range(64)]
        frame = _codec.frame(Kind.RUN, [batch])
        samples = []
        for _ in range(repeats):
            cpu, begin = _cpu_of(process.pid), time.perf_counter()
            sent = done = 0
            while done < tasks:
                while sent - done < 512:
                    peer.sendall(frame)
                    sent += 64
                done += sum(len(message[0]) for _, message in reader.feed(peer.recv(1 << 18)))
            while done < sent:
                done += sum(len(message[0]) for _, message in reader.feed(peer.recv(1 << 18)))
            samples.append(((_cpu_of(process.pid) - cpu) / sent * 1e6, (time.perf_counter() - begin) / sent * 1e6))
        costs[name] = (statistics.median(s[0] for s in samples), statistics.median(s[1] for s in samples))
    peer.close()
    process.wait()
    return costs


def _cpu_of(pid: int) -> float:
    """Seconds of CPU time of a process, from the scheduler's nanosecond counter."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(f"{'submit':34} CPU us/call")
        for name, cost in submit_costs(directory, options.tasks, options.repeats).items():
            print(f"  {name:32} {cost:8.2f}")
        print(f"{'execute':34} CPU us/task   wall us/task")
        for name, (cpu, wall) in execute_costs(directory, options.tasks, options.repeats).items():
            print(f"  {name:32} {cpu:8.2f}       {wall:8.2f}")
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
