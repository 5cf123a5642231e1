"""Goal: the demo's story ends well, on the embedded log and on a real Kafka broker: a fog agent is killed, an uplink is cut,
and the answer equals the sequential one. Method: the demo itself; it leaves no process of its own behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from cluster import SOURCE


def demo_processes() -> set[str]:
    """Processes whose command line names the state directory of a demo."""
    return set(subprocess.run(["pgrep", "-f", "shoal-demo-"], capture_output=True, text=True, check=False).stdout.split())


@pytest.mark.parametrize("streams", ["embedded log", "kafka"])
def test_the_demo(streams: str) -> None:
    command = [sys.executable, str(SOURCE / "tools/cluster/demo.py"), "--bin", os.environ["SHOAL_BIN"]]
    before = demo_processes()
    done = subprocess.run(
        command + (["--kafka"] if streams == "kafka" else []), capture_output=True, text=True, timeout=300, check=False
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "sequential computation of the same readings: EQUAL" in told
    assert "the result is right" in told
    for picture in ("graph.svg", "timeline.svg"):
        assert (SOURCE / "build/demo" / picture).read_text().startswith("<svg")
    assert demo_processes() <= before, told
