"""Goal: a program gets the agents it asks for, uses them, gives them back, and leaves none behind.
Method: a real agent with the built-in provider, and with a command that starts agents; tasks that say where they run."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
from cluster import Agent, Cluster, wait_until

PROGRAM = """
import os, sys, time
from pycompss.api.api import *
from pycompss.api.task import task

@task(returns=1)
def where(i, path):
    open(f"{path}/started.{os.environ['SHOAL_TEST_ID']}.{i}", "w").close()
    time.sleep(0.1)
    return os.getppid()

@task()
def waits(path):
    open(path + "/waiting", "w").close()
    while True:
        time.sleep(0.05)

def until(condition, what):
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            sys.exit("never: " + what)
        time.sleep(0.05)

path = sys.argv[1]
assert compss_get_number_of_resources() == 1
with TaskGroup("growing", implicit_barrier=False):
    waits(path)
until(lambda: os.path.exists(path + "/waiting"), "the task of the group runs")
compss_request_resources(2, "growing")
compss_barrier_group("growing")       # ends when the group is cancelled: the agents are there
assert compss_get_number_of_resources() == 3, compss_get_number_of_resources()
print("grown", len(set(compss_wait_on([where(i, path) for i in range(60)]))), flush=True)
compss_free_resources(1)
until(lambda: compss_get_number_of_resources() == 2, "one is taken off")
print("shrunk", len(set(compss_wait_on([where(i, path) for i in range(30)]))) <= 2, flush=True)
until(lambda: os.path.exists(path + "/go"), "the test lets it end")
"""


def agents_of(agent: Agent) -> set[str]:
    """Live members that the agent made."""
    rows = agent.json("agents")["agents"]
    return {row["name"] for row in rows if row["name"].startswith("elastic-") and row["status"] == "alive"}


def check_of(agent: Agent) -> str:
    """What doctor says of elastic agents."""
    checks = agent.json("doctor")["checks"]
    return next(row["fact"] for row in checks if row["check"] == "elastic agents")


def run(agent: Agent, path: str, place: Path) -> subprocess.Popen[str]:
    """`shoal run` in the background."""
    return subprocess.Popen(
        [str(agent.cluster.bin / "shoal"), "--home", str(agent.home), "run", "--quiet", path, str(place)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=agent.cluster.environment(),
    )  # fmt: skip


def ends(process: subprocess.Popen[str]) -> list[str]:
    """The lines of a program that ends well."""
    out, errors = process.communicate(timeout=90)
    assert process.returncode == 0, out + errors
    return out.splitlines()


def test_agents_are_made_used_freed_and_end_with_the_program(cluster: Cluster, program, tmp_path: Path) -> None:
    agent = cluster.found("one", start=False, computing_units=1, elastic_max=2)
    agent.variables = {"SHOAL_TEST_ID": "x"}
    agent.start()
    assert check_of(agent) == "local, 0 of at most 2 agents ready"
    process = run(agent, program(PROGRAM), tmp_path)
    try:
        wait_until(lambda: len(agents_of(agent)) == 2, 60, "two agents are made")
        wait_until(lambda: len(list((agent.home / "elastic").iterdir())) == 1, 90, "one is freed and its home is gone")
        wait_until(lambda: len(agents_of(agent)) == 1, 30, "it has left")
        assert check_of(agent) == "local, 1 of at most 2 agents ready"
    finally:
        (tmp_path / "go").touch()
    lines = ends(process)
    assert lines[0].split()[0] == "grown"
    assert int(lines[0].split()[1]) > 1
    assert lines[1] == "shrunk True"
    wait_until(lambda: not list((agent.home / "elastic").iterdir()), 30, "nothing is left")
    wait_until(lambda: not agents_of(agent), 30, "all have left")


def test_without_a_provider_the_program_goes_on(cluster: Cluster, program) -> None:
    agent = cluster.found("one", computing_units=1)
    done = agent.shoal(
        "run", "--quiet",
        program("from pycompss.api.api import *\nfor _ in range(3):\n    compss_request_resources(2, None)\n"
                "compss_free_resources(1, 'g')\nprint(compss_get_number_of_resources())\n"),
    )  # fmt: skip
    assert done.stdout.strip() == "1"
    assert done.stderr.count("set elastic_max") == 1
    assert check_of(agent) == "none (elastic_max = 0)"


COMMAND = """#!/bin/sh
# What a user writes to have machines made: here an agent with its home below {place}.
set -eu
home={place}/$2
echo "$1" >> {place}/calls
if [ "$1" = create ]; then
  [ ! -e {place}/broken ] || {{ echo "no machine to be had" >&2; exit 3; }}
  {shoal} --home "$home" join "$SHOAL_TOKEN" --name "$2"
  {shoald} --home "$home" --http none --computing-units 1 >> "$home/log" 2>&1 &
  echo $! > "$home/pid"
elif [ -e "$home/pid" ]; then
  kill "$(cat "$home/pid")" 2> /dev/null || true
  rm "$home/pid"
fi
"""


@pytest.fixture
def commanded(cluster: Cluster, tmp_path: Path):
    """An agent that has others made by a command, and where that keeps them."""
    place = tmp_path / "machines"
    place.mkdir()
    command = tmp_path / "machines.sh"
    command.write_text(COMMAND.format(place=place, shoal=cluster.bin / "shoal", shoald=cluster.bin / "shoald"))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    yield cluster.found("one", computing_units=1, elastic_max=2, elastic_command=str(command)), place
    for pid in place.glob("*/pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGTERM)
    wait_until(lambda: not list(place.glob("*/run/ready")), 20, "all have ended")


ASKS = "import sys, time, os\nimport shoal\nprint(shoal.request_agents(1), flush=True)\n" \
       "while not os.path.exists(sys.argv[1] + '/go'):\n    time.sleep(0.05)\n"  # fmt: skip


def test_a_command_makes_and_ends_agents(commanded: tuple[Agent, Path], program, tmp_path: Path) -> None:
    agent, place = commanded
    process = run(agent, program(ASKS), tmp_path)
    wait_until(lambda: len(agents_of(agent)) == 1, 60, "an agent is made")
    assert check_of(agent).startswith("command ")
    (tmp_path / "go").touch()
    assert ends(process) == ["1"]
    wait_until(lambda: not agents_of(agent), 30, "it has left")
    assert (place / "calls").read_text().split() == ["create", "destroy"]
    wait_until(lambda: not list((agent.home / "elastic").iterdir()), 30, "nothing is left")


def test_a_command_that_fails_is_told_to_the_program(commanded: tuple[Agent, Path], program, tmp_path: Path) -> None:
    agent, place = commanded
    (place / "broken").touch()
    process = run(agent, program(ASKS), tmp_path)
    wait_until(lambda: "was not made" in agent.log_text(), 30, "the failure is logged")
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "1 of 1 agents that were asked for were not made" in errors
    assert "exited with code 3" in errors
    assert "no machine to be had" in (agent.home / "logs/elastic.log").read_text()


def test_what_a_crash_leaves_behind_is_ended(commanded: tuple[Agent, Path], program, tmp_path: Path) -> None:
    agent, place = commanded
    process = run(agent, program(ASKS), tmp_path)
    wait_until(lambda: len(agents_of(agent)) == 1, 60, "an agent is made")
    agent.kill()
    process.kill()
    process.communicate()
    agent.start()
    wait_until(lambda: "destroy" in (place / "calls").read_text(), 30, "the command is asked to end it")
    wait_until(lambda: not list((agent.home / "elastic").iterdir()), 30, "nothing is left")
    wait_until(lambda: not list(place.glob("*/pid")), 30, "it has ended")


def test_agents_end_with_the_one_that_made_them(cluster: Cluster, program, tmp_path: Path) -> None:
    agent = cluster.found("one", computing_units=1, elastic_max=1)
    process = run(agent, program(ASKS), tmp_path)
    wait_until(lambda: len(agents_of(agent)) == 1, 60, "an agent is made")
    begin = time.monotonic()
    assert agent.stop() == 0
    assert time.monotonic() - begin < 14
    process.kill()
    process.communicate()
    mine = str(agent.home / "elastic")

    def left() -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if mine.encode() in entry.read_bytes():
                    found.append(entry.parent.name)
            except OSError:
                continue
        return found

    wait_until(lambda: not left(), 20, "no process of it is left")
