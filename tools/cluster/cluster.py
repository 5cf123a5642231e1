"""Starts a hierarchy of real agents on this machine, for the demo, the system tests and the benchmarks.

Each agent is a process with a home directory of its own. With namespaces each also has a network namespace of its
own, all joined by a bridge inside one more namespace, so that an uplink can be cut without touching the host's
network; otherwise all share loopback. Everything started here is ended here, by process id.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[2]
SWITCH_ADDRESS = "10.77.0.1"  # of the namespace that joins the others


class ClusterError(RuntimeError):
    """A command of the cluster failed; the message has its output."""


def run(command: list[str], timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end and returns its output; ClusterError unless it exits with 0."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise ClusterError(f"{' '.join(command)} exited with {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_until(condition: Callable[[], Any], timeout: float, what: str) -> Any:
    """Waits until `condition` returns something true and returns that; ClusterError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(ClusterError, subprocess.TimeoutExpired, json.JSONDecodeError):
            value = condition()
            if value:
                return value
        if time.monotonic() > deadline:
            raise ClusterError(f"after {timeout:.0f} s still not: {what}")
        time.sleep(0.05)


def namespaces_available() -> bool:
    """True when this user may make network namespaces and links between them."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    probe = f"shoal-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    if made.returncode != 0:
        return False
    linked = subprocess.run(
        ["ip", "-n", probe, "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"], capture_output=True, check=False
    )
    subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return linked.returncode == 0


class Network:
    """One namespace with a bridge, and one namespace a host on it."""

    def __init__(self) -> None:
        self.tag = f"sh{os.getpid() % 100000}"
        self.switch = f"{self.tag}-net"
        self.hosts: list[str] = []
        run(["ip", "netns", "add", self.switch])
        run(["ip", "-n", self.switch, "link", "add", "br0", "type", "bridge"])
        run(["ip", "-n", self.switch, "addr", "add", f"{SWITCH_ADDRESS}/24", "dev", "br0"])
        run(["ip", "-n", self.switch, "link", "set", "br0", "up"])
        run(["ip", "-n", self.switch, "link", "set", "lo", "up"])

    def add(self) -> tuple[str, str]:
        """A new host: its namespace and its address."""
        number = len(self.hosts) + 2
        host = f"{self.tag}-h{number}"
        self.hosts.append(host)
        run(["ip", "netns", "add", host])
        run(["ip", "-n", self.switch, "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", host])
        run(["ip", "-n", self.switch, "link", "set", f"p{number}", "master", "br0", "up"])
        run(["ip", "-n", host, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0"])
        run(["ip", "-n", host, "link", "set", "eth0", "up"])
        run(["ip", "-n", host, "link", "set", "lo", "up"])
        return host, f"10.77.0.{number}"

    def set_link(self, host: str, up: bool) -> None:
        """Plugs a host's cable in or pulls it out."""
        number = host.rsplit("-h", 1)[1]
        run(["ip", "-n", self.switch, "link", "set", f"p{number}", "up" if up else "down"])

    def close(self) -> None:
        """Removes every namespace made here."""
        for name in [*self.hosts, self.switch]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@dataclass
class Agent:
    """One agent: where it lives and the process that runs it."""

    name: str
    home: Path
    cluster: Cluster
    settings: list[str] = field(default_factory=list)
    namespace: str = ""
    address: str = "127.0.0.1"
    variables: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    arena: Path | None = None

    def shoal(self, *arguments: str, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `shoal` against this agent."""
        return run([*self.prefix(), str(self.cluster.bin / "shoal"), "--home", str(self.home), *arguments], timeout, check)

    def json(self, *arguments: str, timeout: float = 60) -> Any:
        """The JSON that `shoal … -o json` prints."""
        return json.loads(self.shoal("-o", "json", *arguments, timeout=timeout).stdout)

    def prefix(self) -> list[str]:
        """What runs a command on this agent's host."""
        return ["ip", "netns", "exec", self.namespace] if self.namespace else []

    def start(self, wait: bool = True) -> None:
        """Starts the process with `variables` added to its environment; with `wait`, returns once it answers."""
        log = (self.home / "shoald.log").open("ab")
        self.process = subprocess.Popen(
            [*self.prefix(), str(self.cluster.bin / "shoald"), "--home", str(self.home), *self.settings],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=self.cluster.environment() | self.variables,
            start_new_session=True,
        )
        log.close()
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout: float = 20) -> None:
        """Waits until the agent answers requests."""

        def ready() -> bool:
            if self.process is not None and self.process.poll() is not None:
                raise SystemExit(f"{self.name} did not start:\n{self.log_text()[-3000:]}")
            return (self.home / "run/ready").exists() and self.shoal("status", check=False).returncode == 0

        wait_until(ready, timeout, f"{self.name} is ready")

    def log_text(self) -> str:
        """What the agent wrote to its log."""
        path = self.home / "shoald.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def socket(self) -> str:
        """The agent's Unix socket."""
        return json.loads((self.home / "run/ready").read_text())["socket"]

    def kill(self) -> None:
        """SIGKILL, as a power cut of the process."""
        assert self.process is not None
        self.arena = Path("/dev/shm") / f"shoal-{json.loads((self.home / 'run/ready').read_text())['agent']}"
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self, timeout: float = 15) -> int:
        """SIGTERM, and waits for the end; returns the exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process = None
        return code

    def set_uplink(self, up: bool) -> None:
        """Cuts or restores this host's network; needs namespaces."""
        assert self.cluster.network is not None
        self.cluster.network.set_link(self.namespace, up)


class Cluster:
    """A hierarchy of agents below one directory."""

    def __init__(self, directory: Path | None = None, binaries: Path | None = None, namespaces: bool = False) -> None:
        self.own = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="shoal-"))
        self.bin = binaries or Path(os.environ.get("SHOAL_BIN", SOURCE / "build/dev/bin"))
        self.network = Network() if namespaces else None
        self.agents: dict[str, Agent] = {}

    def environment(self) -> dict[str, str]:
        """The environment of agents: nothing of the caller's settings leaks into them."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SHOAL_", "PYTHON"))}
        kept["TMPDIR"] = str(self.directory)
        return kept

    def found(self, name: str, *, region: str = "root", start: bool = True, **settings: Any) -> Agent:
        """The first agent: founds the realm and its root region."""
        agent = self._new(name, settings | {"region": region})
        agent.shoal("init", "--name", name)
        if start:
            agent.start()
        return agent

    def join(
        self,
        name: str,
        through: Agent,
        *,
        child_region: str = "",
        start: bool = True,
        issuer: Agent | None = None,
        **settings: Any,
    ) -> Agent:
        """One more agent, in the region of `through` or in `child_region` below it."""
        agent = self._new(name, settings)
        token_of = issuer or through
        arguments = ["token", "create", *(["--child-region", child_region] if child_region else [])]
        token = token_of.shoal(*arguments).stdout.strip()
        agent.shoal("join", token, "--name", name)
        if start:
            agent.start()
        return agent

    def _new(self, name: str, settings: dict[str, Any]) -> Agent:
        home = self.directory / name
        home.mkdir(parents=True)
        agent = Agent(name, home, self)
        if self.network is not None:
            agent.namespace, agent.address = self.network.add()
        settings.setdefault("listen", f"{agent.address}:0")
        for key, value in settings.items():
            if key == "labels":
                value = ",".join(f"{label}={text}" for label, text in value.items())
            agent.settings += [f"--{key.replace('_', '-')}", str(value)]
        self.agents[name] = agent
        return agent

    def close(self) -> None:
        """Stops every agent, removes the namespaces and, if it made it, the directory."""
        for agent in reversed(list(self.agents.values())):
            with contextlib.suppress(ProcessLookupError):
                agent.stop()
            if agent.arena is not None:  # a killed agent's values stay until another one of this user starts
                shutil.rmtree(agent.arena, ignore_errors=True)
        if self.network is not None:
            self.network.close()
        if self.own:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


@contextlib.contextmanager
def started(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """Ends the process when the block ends."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
