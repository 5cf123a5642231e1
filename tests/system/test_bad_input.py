"""Goal: bad input and bad surroundings each give a clear error, the agent lives on, and nothing acknowledged is lost.
Method: one evil at a time on real agents. Afterwards the agent runs a program, and what it acknowledged before is read."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from cluster import Agent, Cluster, wait_until
from conftest import SQUARE, Keeper

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
needs_faketime = pytest.mark.skipif(FAKETIME is None, reason="the package faketime is not installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")


@contextlib.contextmanager
def mounted(directory: Path, size: str) -> Iterator[Path]:
    """A small file system of its own."""
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("this machine does not let the test mount a tmpfs")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=False)


def fails(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """The command failed and its message has the words, and no trace of a crash of ours."""
    assert done.returncode not in (0, 139, 134), done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert "terminate called" not in done.stderr


# ---- applications ----


def test_unknown_and_malformed_programs(keeper: Keeper, tmp_path: Path) -> None:
    agent = keeper.agent
    missing = agent.shoal("run", str(tmp_path / "none.py"), check=False)
    assert missing.returncode == 127
    fails(missing, "none.py")
    fails(agent.shoal("run", str(tmp_path), check=False), str(tmp_path))
    broken = tmp_path / "broken.py"
    broken.write_text("def f(:\n")
    fails(agent.shoal("run", str(broken), check=False), "SyntaxError", "broken.py")
    binary = tmp_path / "noise.py"
    binary.write_bytes(b"\xff\xfe" * 100)
    fails(agent.shoal("run", str(binary), check=False), "noise.py")
    text = tmp_path / "plain"
    text.write_text("not a program\n")
    fails(agent.shoal("run", str(text), check=False), str(text), "Permission denied")
    text.chmod(0o755)
    fails(agent.shoal("run", str(text), check=False))
    elf = tmp_path / "elf"
    elf.write_bytes(b"\x7fELF" + os.urandom(200))
    elf.chmod(0o755)
    fails(agent.shoal("run", str(elf), check=False), str(elf))
    keeper.check()


def test_a_task_that_is_no_function_and_arguments_that_cannot_be_pickled(keeper: Keeper, program) -> None:
    agent = keeper.agent
    lock = program(
        "import threading\nfrom shoal import task, wait_on\n@task(returns=int)\ndef f(x):\n    return 1\n"
        "wait_on(f(threading.Lock()))\n"
    )
    fails(agent.shoal("run", lock, check=False), "lock", "f")
    result = program(
        "import threading\nfrom shoal import task, wait_on\n@task(returns=object)\ndef make():\n"
        "    return threading.Lock()\nwait_on(make())\n"
    )
    fails(agent.shoal("run", result, check=False), "make", "lock")
    unpicklable = program(
        "from shoal import task, wait_on\nclass Odd:\n    def __reduce__(self):\n        return (int, ('x',))\n"
        "@task(returns=int)\ndef g(x):\n    return 1\nwait_on(g(Odd()))\n"
    )
    fails(agent.shoal("run", unpicklable, check=False), "g", "invalid literal")
    keeper.check()


def test_an_interpreter_that_is_not_there(keeper: Keeper, program) -> None:
    fails(keeper.agent.shoal("run", "--python", "/no/such/python", program(SQUARE), check=False), "/no/such/python")
    not_python = program("#!/bin/sh\necho not python >&2\nexit 3\n", "fake-python")
    os.chmod(not_python, 0o755)
    fails(keeper.agent.shoal("run", "--python", not_python, program(SQUARE), check=False), "not python")
    keeper.check()


def test_a_worker_without_the_interpreter_is_passed_over(cluster: Cluster, program) -> None:
    first = cluster.found("a", computing_units=1)
    second = cluster.join("b", first, computing_units=2, python="/no/such/python")
    wait_until(lambda: first.json("status")["members"] == 2, 15, "two members")
    assert "/no/such/python" in second.log_text()
    slow = program(
        "import os, time\nfrom shoal import task, wait_on\n@task(returns=str)\ndef where(i):\n    time.sleep(0.1)\n"
        "    return os.environ['SHOAL_SOCKET']\nprint(len(set(wait_on([where(i) for i in range(12)]))))\n"
    )
    assert first.shoal("run", slow).stdout.strip() == "1"
    # One whose interpreter is there but does not start: what it was given runs elsewhere all the same.
    third = cluster.join("c", first, computing_units=2, start=False)
    third.variables = {"PYTHONHOME": "/no/such/place"}
    third.start()
    wait_until(lambda: third.json("status")["members"] == 3, 15, "three members")
    assert first.shoal("run", slow).stdout.strip() == "1"
    assert "executor" in third.log_text()
    alone = cluster.found("alone", python="/no/such/python")
    fails(alone.shoal("run", slow, check=False), "/no/such/python")


def test_a_program_that_only_a_worker_lacks(cluster: Cluster, program) -> None:
    first = cluster.found("a", computing_units=1)
    cluster.join("b", first, computing_units=2)
    wait_until(lambda: first.json("status")["members"] == 2, 15, "two members")
    missing = program(
        "from shoal import task, wait_on, binary\n@binary(binary='/no/such/command')\n@task(returns=int)\n"
        "def run():\n    pass\nprint(wait_on(run()))\n"
    )
    fails(first.shoal("run", missing, check=False, timeout=90), "/no/such/command")


def test_a_constraint_nobody_meets_names_what_is_missing_and_what_exists(cluster: Cluster, program) -> None:
    first = cluster.found("a", computing_units=1, labels={"tier": "cloud"})
    cluster.join("b", first, computing_units=2, memory_mb=512, labels={"tier": "fog"})
    wait_until(lambda: first.json("status")["members"] == 2, 15, "two members")
    text = (
        "from shoal import task, wait_on, constraint\n@constraint({})\n@task(returns=int)\n"
        "def f():\n    return 1\nwait_on(f())\n"
    )
    labelled = first.shoal("run", program(text.format("labels={'gpu': 'a100'}")), check=False, timeout=60)
    fails(labelled, "gpu", "a100", "tier", "cloud", "fog")
    units = first.shoal("run", program(text.format("computing_units=64")), check=False, timeout=60)
    fails(units, "64")
    memory = first.shoal("run", program(text.format("memory_size=4096000")), check=False, timeout=60)
    fails(memory, "memory")
    for agent in cluster.agents.values():
        assert agent.shoal("run", program(SQUARE)).stdout.strip() == "14"


# ---- tokens and certificates ----


def test_wrong_and_used_tokens(cluster: Cluster, keeper: Keeper) -> None:
    token = keeper.agent.shoal("token", "create").stdout.strip()
    damaged = token[:-6] + ("AAAAAA" if not token.endswith("AAAAAA") else "BBBBBB")
    fails(cluster._new("d", {}).shoal("join", damaged, "--name", "d", check=False), "token")
    fails(cluster._new("e", {}).shoal("join", "not-a-token", "--name", "e", check=False), "token")
    cluster._new("b", {}).shoal("join", token, "--name", "b")
    fails(cluster._new("c", {}).shoal("join", token, "--name", "c", check=False), "used", "shoal token create")
    stranger = cluster.found("stranger")
    foreign = stranger.shoal("token", "create").stdout.strip()
    stranger.stop()
    fails(cluster._new("f", {}).shoal("join", foreign, "--name", "f", check=False, timeout=90))
    keeper.check()


@needs_faketime
def test_an_expired_certificate(cluster: Cluster, keeper: Keeper) -> None:
    second = cluster.join("b", keeper.agent, computing_units=1)
    wait_until(lambda: keeper.agent.json("status")["members"] == 2, 15, "two members")
    second.stop()
    second.variables = faketime("+3d")
    second.start(wait=False)
    assert second.process is not None
    assert second.process.wait(20) == 1
    assert re.search("certificate.*expired.*(join again|token)", second.log_text(), re.S)
    second.process = None
    # To agents whose clock has passed its end, the certificate is expired even if its owner believes in it.
    keeper.agent.settings += ["--listen", keeper.agent.json("status")["endpoint"].removeprefix("tcp://")]
    keeper.agent.stop()
    keeper.agent.variables = faketime("+3d")
    keeper.agent.start()
    second.variables = {}
    second.start()
    wait_until(lambda: metric(keeper.agent, "shoal_link_greetings_denied_total") > 0, 15, "the greeting is denied")
    assert keeper.agent.json("status")["members"] == 1
    assert "expired" in second.log_text()
    keeper.check()


def faketime(offset: str) -> dict[str, str]:
    """Environment that shifts the wall clock of a process, and only that."""
    return {"LD_PRELOAD": str(FAKETIME), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}


def metric(agent: Agent, name: str) -> float:
    """One figure of the agent's exposition."""
    import urllib.request

    with urllib.request.urlopen(agent.json("status")["http"] + "/metrics", timeout=10) as answer:
        found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.M)
    assert found is not None
    return float(found.group(1))


@needs_faketime
def test_a_clock_that_jumps(cluster: Cluster, keeper: Keeper, tmp_path: Path) -> None:
    """Timers run on the boot clock: members, leases and tasks must not notice that somebody sets the wall clock."""
    second = cluster.join("b", keeper.agent, computing_units=2, start=False)
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    second.variables = faketime("") | {"FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    del second.variables["FAKETIME"]
    second.start()
    wait_until(lambda: keeper.agent.json("status")["members"] == 2, 15, "two members")
    for jump in ("+3h", "-3h", "+400d", "+0"):
        fresh = clock.with_suffix(".new")
        fresh.write_text(jump + "\n")
        fresh.rename(clock)
        # Longer than every time-out of the lan preset: a lease or a member that fell with the clock would show.
        until = time.monotonic() + 6
        wait_until(lambda u=until: time.monotonic() > u, 10, "time passes")
        assert second.process is not None and second.process.poll() is None
        assert second.shoal("run", str(tmp_path / "square.py")).stdout.strip() == "14"
    wait_until(lambda: keeper.agent.json("status")["members"] == 2, 30, "two members after the clock is right again")
    keeper.check()
    second.shoal("objects", "get", "kept", str(tmp_path / "from-b"))
    assert (tmp_path / "from-b").read_bytes() == keeper.content


# ---- junk ----


REQUEST_KIND = 8  # protocol/wire/client.h
REPLY_KIND = 65


def client_frame(kind: int, message: Any) -> bytes:
    body = msgpack.packb([kind, message])
    return struct.pack("<I", len(body)) + body


def hello(role: str = "cli") -> bytes:
    return client_frame(1, [1, role, None, "hostile", 0, "", None, "", []])


def test_junk_on_every_port(keeper: Keeper) -> None:
    agent = keeper.agent
    status = agent.json("status")
    rng = random.Random(7)
    zmtp = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0CURVE" + b"\0" * 47
    for place in (status["endpoint"].removeprefix("tcp://"), status["http"].removeprefix("http://")):
        host, port = place.split(":")
        for junk in (
            b"",
            b"GET / HTTP/1.0\r\n\r\n",
            rng.randbytes(70_000),
            b"\xff" * 64,
            zmtp,
            zmtp[:11] + b"\1\0NULL" + b"\0" * 48,
            zmtp + rng.randbytes(4000),
            struct.pack("<I", 0xFFFFFFFF),
        ):
            with socket.create_connection((host, int(port)), timeout=5) as peer, contextlib.suppress(OSError):
                peer.sendall(junk)
                peer.shutdown(socket.SHUT_WR)
                peer.settimeout(0.2)
                peer.recv(4096)
    for junk in (
        struct.pack("<I", 0xFFFFFFFF),
        struct.pack("<I", 5) + b"\xc1" * 5,
        rng.randbytes(1000),
        b"\0\0\0\0",
        client_frame(1, ["x"]),
        client_frame(1, []),
        client_frame(99, [1]),
        hello("emperor"),
        hello("executor"),
        struct.pack("<I", 10) + b"\xdd\xff\xff\xff\xff" + b"\0" * 5,
        struct.pack("<I", 200_000) + b"\x91" * 200_000,
        hello() + client_frame(6, []),
    ):
        with socket.socket(socket.AF_UNIX) as peer, contextlib.suppress(OSError):
            peer.connect(agent.socket)
            peer.sendall(junk)
            peer.settimeout(0.2)
            peer.recv(65536)
    keeper.check()


def test_requests_with_senseless_parameters(keeper: Keeper) -> None:
    """Every request that a client can name, with parameters of wrong types, sizes and names, over the real socket."""
    rng = random.Random(11)
    methods = re.findall(r'"((?:agent|token|app|store|streams|edge|sources)\.[a-z_]+)"', sources_of_requests())
    methods = sorted(set(methods) - {"agent.stop", "agent.leave", "app.output", "app.exit", "app.progress"})
    assert len(methods) > 25
    names = [
        "app",
        "name",
        "object",
        "alias",
        "stream",
        "bytes",
        "records",
        "agent",
        "offset",
        "key",
        "path",
        "receipt",
        "replicas",
        "group",
        "partition",
        "consumer",
        "url",
        "topic",
        "program",
        "arguments",
        "environment",
        "text",
        "limit",
        "source",
    ]
    values: list[Any] = [
        None,
        True,
        -1,
        0,
        2**63 - 1,
        -(2**63),
        0.5,
        "",
        "x" * 5000,
        "../../etc/passwd",
        "\0",
        b"",
        b"\xff" * 100,
        [],
        [[[]]],
        {},
        {"a": {"b": []}},
        [None] * 50,
        "kept",
    ]
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(keeper.agent.socket)
        peer.settimeout(20)
        peer.sendall(hello())
        buffer = b""
        number = 0
        expected: set[int] = set()
        for method in methods:
            for _ in range(12):
                number += 1
                params = {name: rng.choice(values) for name in rng.sample(names, rng.randrange(0, 6))}
                if params.get("program"):
                    params["program"] = "/no/such"
                expected.add(number)
                peer.sendall(client_frame(REQUEST_KIND, [number, method, params]))
        deadline = time.monotonic() + 60
        while expected and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                data = peer.recv(65536)
                assert data, f"the agent hung up; unanswered: {sorted(expected)[:5]} of {len(methods)} methods"
                buffer += data
            while len(buffer) >= 4 and len(buffer) >= 4 + struct.unpack_from("<I", buffer)[0]:
                size = struct.unpack_from("<I", buffer)[0]
                kind, message = msgpack.unpackb(buffer[4 : 4 + size], raw=False, strict_map_key=False, unicode_errors="replace")
                buffer = buffer[4 + size :]
                if kind == REPLY_KIND:
                    expected.discard(message[0])
    unanswered = sorted({methods[(n - 1) // 12] for n in expected})
    assert not unanswered, f"no answer to some {unanswered}"
    keeper.check()


def sources_of_requests() -> str:
    """Text of the places that list requests by name."""
    root = Path(__file__).resolve().parents[2]
    return "\n".join(
        p.read_text() for folder in ("agent/daemon", "streams/broker", "edge") for p in (root / folder).glob("*.cc")
    )


# ---- surroundings ----


@needs_root
def test_a_full_disk(cluster: Cluster, tmp_path: Path) -> None:
    with mounted(cluster.directory / "small", "24m") as small:
        agent = cluster._new("small-agent", {})
        agent.home = small / "home"
        agent.home.mkdir()
        agent.shoal("init", "--name", "small")
        agent.start()
        keeper = Keeper(agent, tmp_path)
        kept: dict[str, bytes] = {}
        refused = None
        for i in range(30):
            content = os.urandom(1_500_000)
            (tmp_path / "next").write_bytes(content)
            done = agent.shoal("objects", "put", str(tmp_path / "next"), "--alias", f"n{i}", check=False)
            if done.returncode != 0:
                refused = done
                break
            kept[f"n{i}"] = content
        assert refused is not None
        assert kept
        fails(refused)
        assert re.search("full|space|room", refused.stderr)
        # Now to the last byte, from outside: even what is small cannot be written any more.
        with contextlib.suppress(OSError), (small / "ballast").open("wb") as ballast:
            while True:
                ballast.write(b"x" * 65536)
                ballast.flush()
        agent.shoal("token", "create", check=False)
        agent.shoal("objects", "put", str(tmp_path / "kept"), "--alias", "late", check=False)
        keeper.check(runs=False)
        for alias, content in kept.items():
            agent.shoal("objects", "get", alias, str(tmp_path / "copy"))
            assert (tmp_path / "copy").read_bytes() == content
        # A restart on the full disk says what is wrong, or works; after room is made all is as acknowledged.
        agent.kill()
        (small / "ballast").unlink()
        agent.start()
        keeper.check()
        for alias, content in kept.items():
            agent.shoal("objects", "get", alias, str(tmp_path / "copy"))
            assert (tmp_path / "copy").read_bytes() == content
        agent.shoal("token", "create")
        agent.stop()


@needs_root
def test_a_state_directory_that_turns_read_only(cluster: Cluster, tmp_path: Path) -> None:
    with mounted(cluster.directory / "disk", "64m") as disk:
        agent = cluster._new("guarded", {})
        agent.home = disk / "home"
        agent.home.mkdir()
        agent.shoal("init", "--name", "guarded")
        agent.start()
        keeper = Keeper(agent, tmp_path)
        agent.stop()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = subprocess.run(
            [str(cluster.bin / "shoald"), "--home", str(agent.home)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env=cluster.environment(),
        )
        assert done.returncode == 1
        assert "Read-only file system" in done.stderr and str(agent.home) in done.stderr and "--home" in done.stderr
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        agent.start()
        keeper.check()
        agent.stop()


def test_a_second_daemon_on_the_same_home(keeper: Keeper, cluster: Cluster) -> None:
    done = subprocess.run(
        [str(cluster.bin / "shoald"), "--home", str(keeper.agent.home)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    fails(done, "already uses", str(keeper.agent.home), "--home")
    assert keeper.agent.process is not None
    assert str(keeper.agent.process.pid) in done.stderr
    keeper.check()


def test_ports_in_use(keeper: Keeper, cluster: Cluster) -> None:
    status = keeper.agent.json("status")
    for setting, address in (
        ("listen", status["endpoint"].removeprefix("tcp://")),
        ("http", status["http"].removeprefix("http://")),
    ):
        done = subprocess.run(
            [str(cluster.bin / "shoald"), "--home", str(cluster.directory / "b"), f"--{setting}", address],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 1
        fails(done, address, f"--{setting}")
        assert re.search("in use|uses that port", done.stderr)
    keeper.check()
