"""Other task runtimes: which there are, how they are installed, and how a program that measures one is run and ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import processes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / "build/bench-peers"
NUMPY = "numpy==2.2.6"
INSTALL_LIMIT_S = 900
RUN_LIMIT_S = 300
STOP_PATIENCE_S = 20
LINKS = 1000  # of the chain and parts of the fan-in that figures are given for
ARRAY_BYTES = 100_000_000


class PeerError(RuntimeError):
    """A peer could not be installed or measured; the message says why."""


@dataclass(frozen=True)
class Sizes:
    """How many tasks of each kind: enough for some seconds, so slow runtimes get fewer."""

    tasks: int
    serial: int
    chain: int
    fan: int
    spawn: int


@dataclass(frozen=True)
class Peer:
    """One runtime. Without packages it needs nothing but this interpreter."""

    name: str
    sizes: Sizes
    packages: tuple[str, ...] = ()
    note: str = ""


TINY = Sizes(tasks=50, serial=3, chain=5, fan=5, spawn=5)
SHOAL = Peer("shoal", Sizes(20_000, 1_000, LINKS, LINKS, 1_000), (),
             "the array is a value that a task returned, because shoal.put writes to disk")
PEERS = {peer.name: peer for peer in (
    Peer("ray", Sizes(3_000, 300, LINKS, LINKS, 0), ("ray==2.60.0", NUMPY), "without dashboard"),
    Peer("dask", Sizes(1_000, 100, LINKS, LINKS, 0), ("distributed==2026.8.0", NUMPY), "without nanny and dashboard"),
    Peer("hyperqueue", Sizes(100, 10, 50, 100, 1_000), ("hyperqueue==0.27.0",),
         "a Python task is a new interpreter and gives no value back; its API looks once a second whether a job has ended"),
    Peer("parsl", Sizes(1_000, 300, LINKS, LINKS, 500), ("parsl==2026.10.26",), "HighThroughputExecutor"),
    Peer("processpool", Sizes(20_000, 1_000, LINKS, LINKS, 0), (),
         "of the standard library; knows no dependencies, the driver waits and passes values on"),
)}  # fmt: skip


def chosen(names: str) -> list[Peer]:
    """Peers by their names with commas between; ValueError names the unknown one and all that there are."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in PEERS:
            raise ValueError(f"'{name}' is no peer known here: choose from {', '.join(PEERS)}")
    if not wanted:
        raise ValueError(f"no peer named: choose from {', '.join(PEERS)}")
    return [PEERS[name] for name in dict.fromkeys(wanted)]


def interpreter(peer: Peer, say: Callable[[str], None]) -> Path:
    """The Python that has the peer's packages, installed below build/bench-peers unless they are there already.

    PeerError when they cannot be installed.
    """
    if not peer.packages:
        return Path(sys.executable)
    place = ENVIRONMENTS / peer.name
    python = place / "bin/python"
    wanted = "\n".join(peer.packages) + "\n"
    complete = place / "installed.txt"  # written last, so that an interrupted installation is made again
    if python.exists() and complete.exists() and complete.read_text() == wanted:
        return python
    say(f"installing {', '.join(peer.packages)} …")
    for command in ([sys.executable, "-m", "venv", "--clear", str(place)],
                    [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.packages]):
        done = run(command, dict(os.environ), INSTALL_LIMIT_S)
        if done.code != 0:
            raise PeerError(f"not installed: {reason(done.errors)}")
    complete.write_text(wanted)
    return python


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    output: str
    errors: str


def run(command: list[str], environment: dict[str, str], limit_s: float) -> Done:
    """Runs a command in a session of its own; when this returns or raises, nothing that it started is left.

    PeerError when it takes longer than `limit_s`.
    """
    before = processes.below(os.getpid())
    with tempfile.TemporaryFile("w+", errors="replace") as output, tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment,
                                   start_new_session=True)
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise PeerError(f"not done after {limit_s:.0f} s") from None
        finally:
            try:
                end(process)
            finally:  # also when a second Ctrl-C interrupts the first
                processes.end_below(spared=before)
        output.seek(0)
        errors.seek(0)
        return Done(code, output.read(), errors.read())


def end(process: subprocess.Popen[Any]) -> None:
    """Asks a program to end its runtime and itself; with SIGKILL after a while."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def reason(errors: str) -> str:
    """The line of a program's standard error that says most: pip's first error, else the last line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
    return said[0][:300] if said else "it said nothing"


@contextlib.contextmanager
def all_ended() -> Iterator[None]:
    """While this holds, nothing that `run` starts escapes it, and SIGTERM ends this program as Ctrl-C does."""
    processes.adopt_orphans()
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def measure(peer: Peer, python: Path, binaries: Path, quick: bool) -> dict[str, Any]:
    """Starts the peer's runtime once and measures it: its version, figures, and what it does not have.

    PeerError when it failed.
    """
    directory = Path(tempfile.mkdtemp(prefix="shoal-vs-"))
    own = directory / "work"
    own.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SHOAL_", "PYTHON"))}
    paths = [HERE / "peer_programs"]
    if peer is SHOAL:  # as `shoal run` does for a program
        paths += [HERE, ROOT / "tools/cluster", ROOT / "sdk/python", binaries.parent / "python"]
        environment["BENCH_SHOAL_BIN"] = str(binaries)
    environment["PYTHONPATH"] = os.pathsep.join(str(path) for path in paths)
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    sizes = asdict(sizes_of(peer, quick)) | {"array_bytes": array_bytes(quick), "directory": str(own),
                                             "asked_ns": time.monotonic_ns()}
    try:
        done = run([str(python), str(HERE / f"peer_programs/run_{peer.name}.py"), json.dumps(sizes)], environment, RUN_LIMIT_S)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if not done.output:
        raise PeerError(f"failed: {reason(done.errors)}")
    result = json.loads(done.output)
    if "error" in result:
        raise PeerError(f"failed: {result['error'][:300]}")
    return result


def sizes_of(peer: Peer, quick: bool) -> Sizes:
    """How many tasks the peer gets."""
    return TINY if quick else peer.sizes


def array_bytes(quick: bool) -> int:
    """Of the large array."""
    return ARRAY_BYTES // 100 if quick else ARRAY_BYTES
