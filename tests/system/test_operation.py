"""Goal: bad input and bad surroundings give a clear error, and the agent lives on. Method: one at a time, on a real agent."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
from pathlib import Path

import pytest
from cluster import Cluster, wait_until


def alive(agent) -> bool:
    return agent.shoal("status", check=False).returncode == 0


def test_used_wrong_and_damaged_tokens_are_refused(cluster: Cluster) -> None:
    first = cluster.found("a")
    token = first.shoal("token", "create").stdout.strip()
    cluster._new("b", {}).shoal("join", token, "--name", "b")
    for name, bad in (("c", token), ("d", token[:-3] + "abc"), ("e", "not-a-token")):
        done = cluster._new(name, {}).shoal("join", bad, "--name", name, check=False)
        assert done.returncode != 0
        assert done.stderr.strip()
    assert alive(first)


def test_junk_on_every_port_is_survived(cluster: Cluster) -> None:
    agent = cluster.found("a")
    host, port = re.sub("^tcp://", "", agent.json("status")["endpoint"]).split(":")
    for junk in (b"GET / HTTP/1.0\r\n\r\n", os.urandom(5000), b"\xff" * 64):
        with socket.create_connection((host, int(port)), timeout=5) as peer:
            peer.sendall(junk)
    for junk in (struct.pack("<I", 0xFFFFFFFF), struct.pack("<I", 5) + b"\xc1" * 5, os.urandom(1000)):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(agent.socket)
            peer.sendall(junk)
    assert alive(agent)


def test_a_second_daemon_on_the_same_home_is_refused(cluster: Cluster) -> None:
    agent = cluster.found("a")
    done = subprocess.run(
        [str(cluster.bin / "shoald"), "--home", str(agent.home)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert "already uses" in done.stderr
    assert alive(agent)


def test_a_port_in_use_is_named(cluster: Cluster) -> None:
    agent = cluster.found("a")
    port = agent.json("status")["endpoint"].rsplit(":", 1)[1]
    done = subprocess.run(
        [str(cluster.bin / "shoald"), "--home", str(cluster.directory / "b"), "--listen", f"127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert port in done.stderr


def test_an_unknown_setting_and_value_are_refused(cluster: Cluster) -> None:
    for flags, expected in ((["--nmae", "x"], "nmae"), (["--preset", "wifi"], "lan|wan|radio")):
        done = subprocess.run(
            [str(cluster.bin / "shoald"), "--home", str(cluster.directory / "h"), *flags],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 2
        assert expected in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs needs root")
def test_a_full_disk_refuses_writes_and_keeps_reading(cluster: Cluster, tmp_path: Path) -> None:
    small = cluster.directory / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let the test mount a tmpfs")
    try:
        agent = cluster._new("small-agent", {})
        agent.home = small / "home"
        agent.home.mkdir()
        agent.shoal("init", "--name", "small")
        agent.start()
        source = tmp_path / "first"
        source.write_bytes(os.urandom(2_000_000))
        agent.shoal("objects", "put", str(source), "--alias", "first")
        refused = None
        for i in range(20):
            source.write_bytes(os.urandom(2_000_000))
            done = agent.shoal("objects", "put", str(source), "--alias", f"n{i}", check=False)
            if done.returncode != 0:
                refused = done
                break
        assert refused is not None
        assert re.search("full|space|room", refused.stderr)
        agent.shoal("objects", "get", "first", str(tmp_path / "copy"))
        agent.stop()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def test_a_program_that_is_not_there(cluster: Cluster, tmp_path: Path) -> None:
    agent = cluster.found("a")
    assert agent.shoal("run", str(tmp_path / "none.py"), check=False).returncode == 127
    program = tmp_path / "app.py"
    program.write_text("print(1)")
    done = agent.shoal("run", "--python", "/no/such/python", str(program), check=False)
    assert done.returncode != 0
    assert "/no/such/python" in done.stderr


def test_leaving_is_not_dying(cluster: Cluster) -> None:
    first = cluster.found("a")
    second = cluster.join("b", first)
    wait_until(lambda: first.json("status")["members"] == 2, 15, "two members")
    assert second.stop() == 0
    wait_until(lambda: first.json("status")["members"] == 1, 5, "one member")
    assert "member left" in first.log_text()
    assert "member dead" not in first.log_text()


def test_every_command_has_help_and_json_is_json(cluster: Cluster) -> None:
    agent = cluster.found("a")
    listed = re.findall(r"^  ([a-z]+(?: [a-z]+)?) ", agent.shoal("--help").stdout, re.M)
    assert len(listed) > 25
    for command in listed:
        assert "Example:" in agent.shoal(*command.split(), "--help").stdout
    for command in ("status", "agents", "topology", "apps", "objects", "streams", "sources", "version"):
        json.loads(agent.shoal("-o", "json", command).stdout)
    assert agent.shoal("nonsense", check=False).returncode == 2


def test_an_idle_agent_is_small_and_quiet(cluster: Cluster) -> None:
    agent = cluster.found("a")
    assert agent.process is not None
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
    anonymous = int(re.search(r"RssAnon:\s+(\d+)", status).group(1))
    assert resident <= 32 * 1024
    assert anonymous <= 8 * 1024


def test_the_memory_of_a_killed_agent_is_freed_by_the_next_one(cluster: Cluster, tmp_path: Path) -> None:
    victim, living = cluster.found("victim"), cluster.found("living")
    arenas = {
        agent.name: Path("/dev/shm") / f"shoal-{json.loads((agent.home / 'run/ready').read_text())['agent']}"
        for agent in (victim, living)
    }
    foreign = Path("/dev/shm") / f"shoal-notes-{tmp_path.name}"
    foreign.mkdir()
    try:
        victim.kill()
        assert arenas["victim"].is_dir()
        cluster.found("next")
        assert not arenas["victim"].exists()
        assert arenas["living"].is_dir(), "its owner lives"
        assert foreign.is_dir(), "no agent made it"
    finally:
        foreign.rmdir()


def test_the_service_manager_is_told_and_sigterm_ends_the_agent(cluster: Cluster) -> None:
    address = cluster.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(20)
        agent = cluster.found("a", start=False)
        agent.variables["NOTIFY_SOCKET"] = str(address)
        agent.start()
        assert manager.recv(100) == b"READY=1"
        assert agent.process is not None
        agent.process.send_signal(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"
        assert agent.process.wait(20) == 0
        agent.process = None


def test_sigterm_gives_running_tasks_back(cluster: Cluster, program) -> None:
    first = cluster.found("a", computing_units=1)
    second = cluster.join("b", first, computing_units=2)
    wait_until(lambda: first.json("status")["members"] == 2, 15, "two members")
    app = first.shoal(
        "submit",
        program(
            "import time\nfrom shoal import task, wait_on\n@task(returns=int)\ndef f(i):\n    time.sleep(0.3)\n"
            "    return i\nprint(sum(wait_on([f(i) for i in range(24)])))\n"
        ),
    ).stdout.strip()
    wait_until(lambda: second.json("status")["attempts_running"], 20, "b has work")
    assert second.process is not None
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(20) == 0
    second.process = None
    wait_until(lambda: "member left" in first.log_text(), 5, "b has left, not died")
    done = first.shoal("attach", app, timeout=60)
    assert done.stdout.strip() == str(sum(range(24)))
