"""Goal: an application outlives the agent it was submitted to. Method: real agents, SIGKILL of the master's agent in the
middle, the command line that follows the program, and what each task noted on disk."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path

from cluster import Agent, Cluster, wait_until

PROGRAM = """
import os, sys, time
from shoal import barrier, task, wait_on, INOUT
PLACE = {place!r}
def note(name):
    descriptor = os.open(f"{{PLACE}}/{{name}}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(descriptor, b"x")
    os.close(descriptor)
@task(returns=int)
def square(i):
    note(f"square.{{i}}")
    time.sleep(0.02)
    return i * i
@task(total=INOUT)
def add(total, value):
    note("add")
    total.append(value)
@task(returns=1)
def large(i):
    return bytes([i]) * 100_000
print("begin", flush=True)
total, sizes = [], []
for block in range(25):
    values = [square(block * 20 + i) for i in range(20)]
    sizes.append(large(block))
    for value in values:
        add(total, value)
    print(block, sum(wait_on(values)), flush=True)
barrier()
print("end", len(wait_on(total)), sum(wait_on(total)), sum(len(size) for size in wait_on(sizes)), flush=True)
print("to stderr", file=sys.stderr, flush=True)
sys.exit(3)
"""
LINES = ["begin"]
LINES += [f"{block} {sum(i * i for i in range(block * 20, block * 20 + 20))}" for block in range(25)]
LINES += [f"end 500 {sum(i * i for i in range(500))} 2500000"]


def three_equals(cluster: Cluster) -> list[Agent]:
    """Agents of one region, each with two units."""
    first = cluster.found("one", computing_units=2)
    agents = [first, *(cluster.join(name, first, computing_units=2) for name in ("two", "three"))]
    wait_until(lambda: all(agent.json("status")["members"] == 3 for agent in agents), 15, "all know each other")
    return agents


def start(agent: Agent, path: str) -> tuple[threading.Thread, list[subprocess.CompletedProcess[str]]]:
    """`shoal run` in the background."""
    done: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(target=lambda: done.append(agent.shoal("run", path, timeout=120, check=False)))
    thread.start()
    return thread, done


def master(agents: list[Agent]) -> Agent | None:
    """Who runs the program now."""
    running = [agent for agent in agents if any(app["state"] == "running" for app in agent.json("apps")["apps"])]
    return running[0] if running else None


def executions(place: Path) -> list[int]:
    """How often each square was computed."""
    return [path.stat().st_size for path in place.glob("square.*")]


def test_the_program_goes_on_with_its_guardian(cluster: Cluster, program, tmp_path: Path) -> None:
    agents = three_equals(cluster)
    thread, done = start(agents[0], program(PROGRAM.format(place=str(tmp_path))))
    wait_until(lambda: len(executions(tmp_path)) >= 250, 60, "half of it is done")
    agents[0].kill()
    thread.join()
    assert done[0].stdout.splitlines() == LINES, done[0].stderr
    assert done[0].returncode == 3
    assert done[0].stderr.endswith("to stderr\n")
    assert len(executions(tmp_path)) == 500
    # Only what was not finished and mirrored when the master died runs again: at most what was under way.
    assert sum(executions(tmp_path)) <= 500 + 40


def test_two_masters_are_lost_one_after_the_other(cluster: Cluster, program, tmp_path: Path) -> None:
    agents = three_equals(cluster)
    thread, done = start(agents[0], program(PROGRAM.format(place=str(tmp_path))))
    wait_until(lambda: len(executions(tmp_path)) >= 100, 60, "a part of it is done")
    agents[0].kill()
    rest = agents[1:]
    wait_until(lambda: master(rest), 20, "somebody goes on with it")
    wait_until(lambda: len(executions(tmp_path)) >= 300, 60, "more of it is done")
    second = master(rest)
    assert second is not None
    second.kill()
    thread.join()
    assert done[0].stdout.splitlines() == LINES, done[0].stderr
    assert done[0].returncode == 3


def test_a_program_that_does_something_else_the_second_time_is_stopped(cluster: Cluster, program, tmp_path: Path) -> None:
    agents = three_equals(cluster)
    text = f"""
import os, time
from shoal import task, wait_on
@task(returns=int)
def one(i):
    return i
@task(returns=int)
def other(i):
    return i
@task(returns=int)
def slow():
    open({str(tmp_path / "started")!r}, "w").close()
    time.sleep(1)
    return 1
call = other if os.path.exists({str(tmp_path / "second")!r}) else one
print(wait_on(call(1)), flush=True)
print(wait_on([slow() for _ in range(40)]), flush=True)
"""
    thread, done = start(agents[0], program(text))
    wait_until((tmp_path / "started").exists, 30, "the first result is used")
    (tmp_path / "second").touch()
    agents[0].kill()
    thread.join()
    assert done[0].returncode != 0
    assert "does not do again what it did" in done[0].stderr
    assert "other" in done[0].stderr


def test_a_master_that_was_only_silent_gives_way(cluster: Cluster, program, tmp_path: Path) -> None:
    agents = three_equals(cluster)
    thread, done = start(agents[0], program(PROGRAM.format(place=str(tmp_path))))
    wait_until(lambda: len(executions(tmp_path)) >= 100, 60, "a part of it is done")
    process = agents[0].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        wait_until(
            lambda: any(app["state"] == "running" for agent in agents[1:] for app in agent.json("apps")["apps"]),
            60,
            "somebody goes on with it",
        )
    finally:
        process.send_signal(signal.SIGCONT)
    thread.join()
    assert done[0].stdout.splitlines() == LINES, done[0].stderr
    assert done[0].returncode == 3
    wait_until(lambda: agents[0].json("status", timeout=20)["members"] == 3, 30, "it is a member again")


def test_an_agent_that_is_stopped_hands_its_program_on(cluster: Cluster, program, tmp_path: Path) -> None:
    agents = three_equals(cluster)
    thread, done = start(agents[0], program(PROGRAM.format(place=str(tmp_path))))
    wait_until(lambda: len(executions(tmp_path)) >= 100, 60, "a part of it is done")
    assert agents[0].stop() == 0
    thread.join()
    assert done[0].stdout.splitlines() == LINES, done[0].stderr
    assert done[0].returncode == 3


def test_an_agent_that_is_alone_in_its_region_has_a_guardian_above(three_levels: Cluster, program, tmp_path: Path) -> None:
    edge = three_levels.agents["edge-1"]
    thread, done = start(edge, program(PROGRAM.format(place=str(tmp_path))))
    wait_until(lambda: len(executions(tmp_path)) >= 250, 60, "half of it is done")
    edge.kill()
    thread.join()
    assert done[0].stdout.splitlines() == LINES, done[0].stderr
    assert done[0].returncode == 3


def test_once_gives_what_it_gave_before(cluster: Cluster, program, tmp_path: Path) -> None:
    agents = three_equals(cluster)
    text = f"""
import random, time
from shoal import once, task, wait_on
@task(returns=int)
def one(i):
    open({str(tmp_path)!r} + f"/square.{{i}}", "a").write("x")
    time.sleep(0.02)
    return i
first, count = once(time.time_ns), once(random.randrange, 5, 9)
print(first, flush=True)
for block in range(10 + count):
    wait_on([one(block * 10 + i) for i in range(10)])
print(first, once(lambda: 5), flush=True)
"""
    thread, done = start(agents[0], program(text))
    wait_until(lambda: len(executions(tmp_path)) >= 50, 60, "a part of it is done")
    agents[0].kill()
    wait_until(lambda: master(agents[1:]), 20, "somebody goes on with it")
    wait_until(lambda: len(executions(tmp_path)) >= 100, 60, "more of it is done")
    second = master(agents[1:])
    assert second is not None
    second.kill()
    thread.join()
    assert done[0].returncode == 0, done[0].stderr
    first, last = done[0].stdout.splitlines()
    assert last == f"{first} 5"
    assert 150 <= len(executions(tmp_path)) < 190
