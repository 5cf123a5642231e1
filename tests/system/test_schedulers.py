"""Schedulers by name, and what `shoal explain` says of them.

Goal: a program chooses its scheduler by name, COMPSs's names are understood, a wrong one is refused with the names there
are, and people see why a task is where it is.
Method: real agents, programs started by `shoal run` and by runcompss.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import Cluster

LOCALITY = "es.bsc.compss.scheduler.lookahead.locality.LocalityTS"
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
from shoal import task, wait_on

@task(returns=1)
def square(x):
    return x * x

print(sum(wait_on([square(i) for i in range(4)])))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(PROGRAM)
    return path


def test_a_program_chooses_its_scheduler(cluster: Cluster, program: Path) -> None:
    agent = cluster.found("a")
    for name in ("completion", "critical-path", "priority", "fifo", "lifo", "locality", "random"):
        done = agent.shoal("run", "--scheduler", name, str(program))
        assert (done.stdout, done.stderr) == ("14\n", "")
        told = json.loads(agent.shoal("explain", "last", "1", "-o", "json").stdout)
        assert told["scheduler"] == ("critical-path" if name == "priority" else name)
    assert json.loads(agent.shoal("explain", "last", "1", "-o", "json").stdout)["state"] == "done"


def test_names_of_compss_are_translated_and_said_once(cluster: Cluster, program: Path) -> None:
    agent = cluster.found("a")
    done = agent.shoal("run", "--scheduler", LOCALITY, str(program))
    assert done.stdout == "14\n"
    assert done.stderr.count("the nearest here is locality") == 1
    paths = os.pathsep.join(str(ROOT / part) for part in ("sdk/python", "sdk/python/compat"))
    environment = os.environ | {"PYTHONPATH": paths, "SHOAL_SOCKET": agent.socket}
    done = subprocess.run(
        [sys.executable, "-m", "pycompss._doors.runcompss", f"--scheduler={LOCALITY}", str(program)],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "14\n"), done.stderr
    assert done.stderr.count("the nearest here is locality") == 1


def test_a_name_that_is_none_is_refused_with_those_that_are(cluster: Cluster, program: Path) -> None:
    agent = cluster.found("a")
    done = agent.shoal("run", "--scheduler", "fastest", str(program), check=False)
    assert done.returncode != 0
    assert 'no scheduler "fastest": choose completion, critical-path, fifo, lifo, locality or random' in done.stderr
    environment = os.environ | {"PYTHONPATH": str(ROOT / "sdk/python"), "SHOAL_SOCKET": agent.socket, "SHOAL_SCHEDULER": "x"}
    done = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True, check=False,
                          timeout=60)  # fmt: skip
    assert done.returncode != 0
    assert "choose completion, critical-path" in done.stderr


def test_the_agent_has_a_default(cluster: Cluster, program: Path) -> None:
    agent = cluster.found("a", scheduler="lifo")
    assert agent.shoal("run", str(program)).stdout == "14\n"
    assert json.loads(agent.shoal("explain", "last", "1", "-o", "json").stdout)["scheduler"] == "lifo"
