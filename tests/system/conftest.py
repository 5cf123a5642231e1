"""Real agents for the system tests: processes, sockets and disks as a user has them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools/cluster"))

from cluster import Cluster, wait_until


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """An empty hierarchy; everything in it is stopped at the end."""
    with Cluster() as hierarchy:
        yield hierarchy


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
