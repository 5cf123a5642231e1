"""Goal: a run that was killed goes on in the next one, and nothing that its checkpoint has is computed again. Method: real
agents, SIGKILL of the agent in the middle of a run, a new agent, the same folder; tasks note on disk that they ran."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cluster import Agent, Cluster, wait_until

ROOT = Path(__file__).resolve().parents[2]

# Small and large results, a file, a directory, an object that tasks change; `{pace}` slows it down while it is to be killed.
PROGRAM = """
import os, sys, time
from shoal import barrier, once, snapshot, task, wait_on, wait_on_file, INOUT, FILE_IN, FILE_INOUT, FILE_OUT, DIRECTORY_OUT
from shoal import DIRECTORY_IN
PLACE, PACE = sys.argv[1], float(os.environ.get("PACE", "0"))
def note(name):
    descriptor = os.open(f"{PLACE}/{name}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(descriptor, b"x")
    os.close(descriptor)
@task(returns=int)
def square(i):
    note(f"square.{i}")
    time.sleep(PACE)
    return i * i
@task(total=INOUT)
def add(total, value):
    note("add")
    total.append(value)
@task(returns=1)
def large(i):
    note(f"large.{i}")
    return bytes([i]) * 300_000
@task(returns=int)
def measure(block):
    return len(block) + block[0]
@task(path=FILE_OUT)
def write(path, i):
    note(f"write.{i}")
    with open(path, "w") as file:
        file.write(f"line {i}\\n")
@task(path=FILE_INOUT)
def extend(path, i):
    note(f"extend.{i}")
    with open(path, "a") as file:
        file.write(f"more {i}\\n")
@task(tree=DIRECTORY_OUT)
def plant(tree):
    note("plant")
    os.makedirs(tree + "/sub", exist_ok=True)
    with open(tree + "/sub/leaf", "w") as file:
        file.write("green")
@task(tree=DIRECTORY_IN, returns=str)
def look(tree):
    with open(tree + "/sub/leaf") as file:
        return file.read()
stamp = once(time.time_ns)
write("out.txt", 0)
plant("tree")
total, sizes, blocks = [], [], []
for block in range(10):
    values = [square(block * 10 + i) for i in range(10)]
    blocks.append(large(block))
    sizes.append(measure(blocks[-1]))
    extend("out.txt", block)
    for value in values:
        add(total, value)
    print(block, sum(wait_on(values)), flush=True)
barrier()
wait_on_file("out.txt")
print("end", len(wait_on(total)), sum(wait_on(total)), sum(wait_on(sizes)), wait_on(look("tree")), flush=True)
print("blocks", sum(sum(block) for block in wait_on(blocks)), len(open("out.txt").read().splitlines()), flush=True)
print("stamp", stamp, flush=True)
"""
END = [
    f"end 100 {sum(i * i for i in range(100))} {10 * 300_000 + sum(range(10))} green",
    f"blocks {sum(range(10)) * 300_000} 11",
]
TASKS = 2 + 10 * (10 + 1 + 1 + 1 + 10) + 1


class Place:
    """Where a program runs, notes what it did, and keeps its checkpoint."""

    def __init__(self, directory: Path, text: str = PROGRAM) -> None:
        self.notes = directory / "notes"
        self.notes.mkdir()
        self.folder = directory / "checkpoint"
        self.program = directory / "app.py"
        self.program.write_text(text)
        self.cwd = directory

    def count(self, name: str = "*") -> int:
        """How often tasks ran."""
        return sum(path.stat().st_size for path in self.notes.glob(name))

    def done(self, name: str = "square.*") -> int:
        """How many different tasks ran."""
        return len(list(self.notes.glob(name)))

    def command(self, *options: str) -> list[str]:
        """Arguments of `shoal run`."""
        return ["run", "--checkpoint", str(self.folder), *options, str(self.program), str(self.notes)]


def run(agent: Agent, place: Place, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The program from the beginning, or from its checkpoint."""
    words = [str(agent.cluster.bin / "shoal"), "--home", str(agent.home), *place.command(*options)]
    done = subprocess.run(words, cwd=place.cwd, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def run_and_kill(agent: Agent, place: Place, tasks: int, *options: str, pace: float = 0.02) -> None:
    """Starts the program, and kills its agent when so many of its squares were computed."""
    done: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(
        target=lambda: done.append(run(agent, place, "--env", f"PACE={pace}", *options, check=False))
    )
    thread.start()
    wait_until(lambda: place.done() >= tasks, 60, "a part of it is done")
    agent.kill()
    thread.join()
    assert done[0].returncode != 0


def taken(result: subprocess.CompletedProcess[str]) -> int:
    """How many results the program said that it took from its checkpoint."""
    lines = [line for line in result.stderr.splitlines() if "results are taken from the checkpoint" in line]
    return int(lines[0].split()[1]) if lines else 0


@pytest.fixture
def agent(cluster: Cluster) -> Agent:
    """An agent that is alone: nobody guards its applications."""
    return cluster.found("one", computing_units=2)


def test_what_was_finished_is_not_run_again(cluster: Cluster, agent: Agent, tmp_path: Path) -> None:
    place = Place(tmp_path)
    run_and_kill(agent, place, 50)
    before = place.count()
    result = run(cluster.found("two", computing_units=2), place)
    assert result.stdout.splitlines()[-3:-1] == END, result.stderr
    assert taken(result) >= 50
    assert place.done() == 100
    # Only what was under way, or not durable yet, ran twice.
    assert place.count() <= TASKS + 30, (before, place.count())
    # And a third run computes nothing at all.
    third = run(cluster.agents["two"], place)
    assert third.stdout == result.stdout, "once() gave what it gave before"
    assert taken(third) == TASKS + 1
    assert place.count() <= TASKS + 30


def test_a_run_that_is_killed_again_and_again_comes_to_its_end(cluster: Cluster, agent: Agent, tmp_path: Path) -> None:
    place = Place(tmp_path)
    for life, tasks in enumerate((15, 40, 60, 85)):
        run_and_kill(agent if life == 0 else cluster.found(f"life-{life}", computing_units=2), place, tasks)
    result = run(cluster.found("last", computing_units=2), place)
    assert result.stdout.splitlines()[-3:-1] == END, result.stderr
    assert taken(result) >= 85
    assert place.count() <= TASKS + 4 * 30


def test_values_of_other_agents_are_saved(cluster: Cluster, agent: Agent, tmp_path: Path) -> None:
    cluster.join("other", agent, computing_units=2)
    place = Place(tmp_path)
    first = run(agent, place)
    before = place.count()
    agent.kill()
    cluster.agents["other"].kill()
    result = run(cluster.found("new", computing_units=2), place)
    assert result.stdout == first.stdout
    assert place.count() == before


@pytest.mark.parametrize(
    ("policy", "killed_at", "least"), [("finished:30", 50, 90), ("group:23", 50, 69), ("time:200ms", 60, 40)]
)
def test_policies_save_what_they_say(
    cluster: Cluster, agent: Agent, tmp_path: Path, policy: str, killed_at: int, least: int
) -> None:
    place = Place(tmp_path)
    run_and_kill(agent, place, killed_at, "--checkpoint-policy", policy)
    result = run(cluster.found("two", computing_units=2), place)
    assert result.stdout.splitlines()[-3:-1] == END, result.stderr
    found = taken(result)
    assert found >= least
    if policy == "finished:30":
        # A batch is what had finished when the policy spoke, plus what was on its way to the disk, and the once() value.
        assert found < 50 * 2.3 + 40


def test_a_program_that_asks_for_a_snapshot(cluster: Cluster, agent: Agent, tmp_path: Path) -> None:
    text = """
import os, sys, time
from pycompss.api.api import compss_snapshot, compss_wait_on
from pycompss.api.task import task
PLACE = sys.argv[1]
@task(returns=int)
def square(i):
    open(f"{PLACE}/square.{i}", "a").write("x")
    return i * i
first = compss_wait_on([square(i) for i in range(20)])
compss_snapshot()
open(f"{PLACE}/asked", "w").close()
second = compss_wait_on([square(20 + i) for i in range(20)])
while os.path.exists(f"{PLACE}/stay"):
    time.sleep(0.02)
print(sum(first) + sum(second))
"""
    place = Place(tmp_path, text)
    (place.notes / "stay").touch()
    done: list[subprocess.CompletedProcess[str]] = []
    options = ("--checkpoint-policy", "snapshot")
    thread = threading.Thread(target=lambda: done.append(run(agent, place, *options, check=False)))
    thread.start()
    wait_until(lambda: place.done() == 40, 60, "all of it is done")
    agent.kill()
    thread.join()
    (place.notes / "stay").unlink()
    result = run(cluster.found("two", computing_units=2), place, *options)
    assert result.stdout.strip() == str(sum(i * i for i in range(40)))
    assert taken(result) == 20
    assert place.count("square.*") == 60


def test_functions_can_be_left_out(agent: Agent, tmp_path: Path) -> None:
    place = Place(tmp_path)
    run(agent, place, "--checkpoint-avoid", "app.square,large")
    before = place.count()
    result = run(agent, place, "--checkpoint-avoid", "app.square,large")
    assert result.stdout.splitlines()[-3:-1] == END
    assert place.count() == before + 100 + 10


def test_a_changed_program_is_told(agent: Agent, tmp_path: Path) -> None:
    text = """
from shoal import task, wait_on
@task(returns=int)
def one(i):
    open(NOTE, "a").write("x")
    return i + 1
@task(returns=int)
def other(i):
    return i + 2
CALLS
"""
    place = Place(tmp_path)
    text = text.replace("NOTE", repr(str(place.notes / "one")))  # executors have no sys.argv of the program
    place.program.write_text(text.replace("CALLS", "print(wait_on(one(one(1))))"))
    assert run(agent, place).stdout.strip() == "3"
    # Another sequence of calls.
    place.program.write_text(text.replace("CALLS", "print(wait_on(one(other(1))))"))
    result = run(agent, place, check=False)
    assert result.returncode != 0
    assert "task 1 (__main__.other) was a call of __main__.one then" in result.stderr
    assert "checkpoint folder of its own" in result.stderr
    # Other arguments: that call runs again, and what depends on it.
    place.program.write_text(text.replace("CALLS", "print(wait_on(one(one(5))))"))
    result = run(agent, place)
    assert result.stdout.strip() == "7"
    assert "called with other arguments" in result.stderr
    assert place.count("one") == 4
    # Better code in the same functions, and other code around the calls: the results are taken.
    better = text.replace("return i + 1", "i += 1\n    return i")
    better = better.replace("CALLS", "x = one(one(5))\nprint('is', wait_on(x))")
    place.program.write_text(better)
    assert run(agent, place).stdout.strip() == "is 7"
    assert place.count("one") == 4
    # Longer: it goes on where the first ended.
    place.program.write_text(better + "print(wait_on(one(x)))\n")
    assert run(agent, place).stdout.split() == ["is", "7", "8"]
    assert place.count("one") == 5


def test_a_damaged_checkpoint_costs_time_and_nothing_else(agent: Agent, tmp_path: Path) -> None:
    place = Place(tmp_path)
    first = run(agent, place)
    before = place.count()
    journal = place.folder / "journal"
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 4
    journal.write_bytes(content)
    biggest = max((place.folder / "values").iterdir(), key=lambda path: path.stat().st_size)
    biggest.unlink()
    result = run(agent, place)
    assert result.stdout.splitlines()[:-1] == first.stdout.splitlines()[:-1]
    assert "was damaged" in result.stderr
    assert before < place.count() < 2 * before


def test_what_cannot_be_is_said(agent: Agent, tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert "finished:N" in run(agent, place, "--checkpoint-policy", "often", check=False).stderr
    place.folder.write_text("a file")
    result = run(agent, place, check=False)
    assert result.returncode != 0
    assert "checkpoint folder" in result.stderr
    place.folder.unlink()
    place.folder.mkdir()
    (place.folder / "journal").write_text("a text that somebody keeps here")
    result = run(agent, place, check=False)
    assert result.returncode != 0
    assert "name another folder" in result.stderr
    assert (place.folder / "journal").read_text() == "a text that somebody keeps here"


def test_two_runs_cannot_share_a_folder(agent: Agent, tmp_path: Path) -> None:
    place = Place(tmp_path)
    done: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(target=lambda: done.append(run(agent, place, "--env", "PACE=0.02")))
    thread.start()
    wait_until(lambda: place.done() >= 10, 60, "the first is at work")
    second = run(agent, place, check=False)
    thread.join()
    assert second.returncode != 0
    assert "in use by another running application" in second.stderr
    assert done[0].stdout.splitlines()[-3:-1] == END


def test_the_master_and_its_checkpoint(cluster: Cluster, agent: Agent, tmp_path: Path) -> None:
    cluster.join("guardian", agent, computing_units=2)
    wait_until(lambda: agent.json("status")["members"] == 2, 15, "they know each other")
    place = Place(tmp_path)
    done: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(target=lambda: done.append(run(agent, place, "--env", "PACE=0.02")))
    thread.start()
    wait_until(lambda: place.done() >= 50, 60, "half of it is done")
    agent.kill()
    thread.join()
    assert done[0].stdout.splitlines()[-3:-1] == END, done[0].stderr
    before = place.count()
    assert before <= TASKS + 40, "large values came from the folder"
    result = run(cluster.agents["guardian"], place)
    assert result.stdout == done[0].stdout
    assert place.count() == before, "the guardian wrote to it, too"


@pytest.mark.parametrize(
    "policy", ["PeriodicTime", "FinishedTasks", "es.bsc.compss.checkpoint.policies.CheckpointPolicyInstantiatedGroup"]
)
def test_runcompss_knows_the_policies(agent: Agent, tmp_path: Path, policy: str) -> None:
    place = Place(tmp_path)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}/sdk/python{os.pathsep}{ROOT}/sdk/python/compat",
        "SHOAL_HOME": str(agent.home),
    }
    words = [
        sys.executable, "-m", "pycompss._doors.runcompss", f"--checkpoint={policy}", f"--checkpoint_folder={place.folder}",
        "--checkpoint_params=period.time:1,finished.tasks:7,instantiated.group:5,avoid.checkpoint:[app.plant,app.write]",
        str(place.program), str(place.notes),
    ]  # fmt: skip

    def once() -> str:
        return subprocess.run(words, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    first = once()
    before = place.count()
    assert once() == first
    assert place.count() == before + 2
    words[4] = "--checkpoint_params=finished.tasks:0"
    words[3] = "--checkpoint=Sometimes"
    wrong = subprocess.run(words, env=environment, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "InstantiatedGroup" in wrong.stderr
