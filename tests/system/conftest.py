"""Real agents for the system tests: processes, sockets and disks as a user has them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools/cluster"))

from cluster import Agent, Cluster, wait_until

SQUARE = """
from shoal import task, wait_on
@task(returns=int)
def square(i):
    return i * i
print(sum(wait_on([square(i) for i in range(4)])))
"""


class Keeper:
    """An agent with something acknowledged, to be checked after each evil."""

    def __init__(self, agent: Agent, directory: Path) -> None:
        self.agent = agent
        self.directory = directory
        self.content = os.urandom(120_000)
        source = directory / "kept"
        source.write_bytes(self.content)
        (directory / "square.py").write_text(SQUARE)
        agent.shoal("objects", "put", str(source), "--alias", "kept")

    def check(self, runs: bool = True) -> None:
        """The same process answers, runs programs, and has what it acknowledged."""
        assert self.agent.process is None or self.agent.process.poll() is None
        copy = self.directory / "copy"
        self.agent.shoal("objects", "get", "kept", str(copy))
        assert copy.read_bytes() == self.content
        copy.unlink()
        if runs:
            assert self.agent.shoal("run", str(self.directory / "square.py")).stdout.strip() == "14"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """An empty hierarchy; everything in it is stopped at the end."""
    with Cluster() as hierarchy:
        yield hierarchy


@pytest.fixture
def keeper(cluster: Cluster, tmp_path: Path) -> Keeper:
    """One agent that has something acknowledged."""
    return Keeper(cluster.found("a", computing_units=2), tmp_path)


@pytest.fixture
def three_levels(cluster: Cluster) -> Cluster:
    """Two agents in the cloud, two in the fog, one at the edge that has no computing unit of its own."""
    cloud = cluster.found("cloud-1", region="cloud", computing_units=1, labels={"tier": "cloud"})
    cluster.join("cloud-2", cloud, computing_units=1)
    fog = cluster.join("fog-1", cloud, child_region="fog", computing_units=1, labels={"tier": "fog"})
    wait_until(lambda: fog.json("status")["attached"], 15, "the fog region is attached")
    cluster.join("fog-2", fog, computing_units=2, labels={"tier": "fog"})
    edge = cluster.join("edge-1", fog, child_region="site", computing_units=0, labels={"tier": "edge"})
    wait_until(lambda: edge.json("status")["attached"], 15, "the edge region is attached")
    return cluster


@pytest.fixture
def program(tmp_path: Path):
    """Writes a program and returns its path."""

    def write(text: str, name: str = "app.py") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write
