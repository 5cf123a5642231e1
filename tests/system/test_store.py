"""Goal: what a receipt says holds. Method: real agents, SIGKILL right after the receipt, reads elsewhere."""

from __future__ import annotations

import os
import time
from pathlib import Path

from cluster import Cluster, wait_until


def test_an_object_with_receipt_region_outlives_its_writer(cluster: Cluster, tmp_path: Path) -> None:
    first = cluster.found("a")
    second = cluster.join("b", first)
    third = cluster.join("c", first)
    wait_until(lambda: third.json("status")["members"] == 3 and second.json("status")["members"] == 3, 15, "three members")
    content = os.urandom(300_000)
    source = tmp_path / "object"
    source.write_bytes(content)
    second.shoal("objects", "put", str(source), "--alias", "kept", "--receipt", "region")
    second.kill()
    begin = time.monotonic()
    third.shoal("objects", "get", "kept", str(tmp_path / "copy"))
    assert time.monotonic() - begin < 2
    assert (tmp_path / "copy").read_bytes() == content


def test_an_acknowledged_object_survives_kill_and_restart(cluster: Cluster, tmp_path: Path) -> None:
    agent = cluster.found("a")
    source = tmp_path / "object"
    source.write_bytes(os.urandom(100_000))
    agent.shoal("objects", "put", str(source), "--alias", "kept")
    agent.kill()
    agent.start()
    agent.shoal("objects", "get", "kept", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_an_object_put_at_the_edge_is_read_in_the_cloud(three_levels: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "object"
    source.write_bytes(b"reading " * 10_000)
    three_levels.agents["fog-2"].shoal("objects", "put", str(source), "--alias", "from-fog", "--receipt", "parent")
    for name in ("cloud-1", "edge-1"):
        three_levels.agents[name].shoal("objects", "get", "from-fog", str(tmp_path / name))
        assert (tmp_path / name).read_bytes() == source.read_bytes()


def test_a_level_the_hierarchy_cannot_give_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    agent = cluster.found("alone")
    source = tmp_path / "object"
    source.write_bytes(b"x")
    done = agent.shoal("objects", "put", str(source), "--receipt", "region", check=False)
    assert done.returncode == 3
    assert "no other agent" in done.stderr
    assert agent.shoal("objects", "get", "nothing", check=False).returncode == 4
