"""Whole applications: wide and deep graphs, C++ tasks, a million tasks, a cold start, a lost executor, small grains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import shoal
import work
from cluster import Agent, Cluster, wait_until
from report import Options, Report, seconds

FAN_IN = 1_000
TREE_WIDTH = 50
SLEEP_MS = 10
GRAINS_US = (20, 50, 100, 200, 400, 800, 1_600, 3_200)


def measure(options: Options, report: Report) -> None:
    """Every figure is of two executors and one driver."""
    many = options.size(1_000_000, 2_000)
    leaves = options.size(100_000, 500)
    sleepers = options.size(2_000, 40)
    report.row("fan_in", f"{FAN_IN:,} tasks and one that takes all their results", "ms", None, "≤ 20")
    report.row("tree", f"{leaves:,} tasks and a tree of sums over them", "s", None, "≤ 2")
    report.row("cpp_local", "C++ tasks in the program's own process", "tasks/s", None, "≥ 500,000")
    report.row("cpp_agent", "… at its agent", "tasks/s")
    report.row("cpp_link", "… at another agent", "tasks/s", None, "≥ 150,000")
    report.row("million", f"{many:,} tasks of one program", "tasks/s")
    report.row("memory", "… most that the agent grew meanwhile, by task", "B")
    report.row("cold", "nothing runs: agent, program, first Python result", "s", None, "≤ 0.4")
    report.row("killed", f"{sleepers:,} tasks of {SLEEP_MS} ms, an executor killed: longer than without", "s", None, "≤ 0.3")
    report.row("grain", "shortest Python task at 50 % efficiency", "us", None, "≤ 200")
    for _ in range(options.runs):
        with Cluster(binaries=options.binaries) as cluster:
            agent = cluster.found("bench", computing_units=2)
            shoal.connect(agent.socket)
            try:
                shoal.wait_on([work.same(i) for i in range(100)])  # executors are up, functions are known
                report.add(fan_in=seconds(fan_in) * 1000, tree=seconds(lambda: tree(leaves)))
                report.add(killed=lost_executor(agent, sleepers), grain=grain(options.size(400, 8)))
                report.add(**million(agent, many))
            finally:
                shoal.disconnect()
            report.add(**cpp(options, cluster, agent))
            report.add(cold=cold_start(cluster))


def fan_in() -> None:
    """One reduction over many results."""
    if shoal.wait_on(work.total([work.same(i) for i in range(FAN_IN)])) != FAN_IN * (FAN_IN - 1) // 2:
        raise AssertionError("the sum is wrong")


def tree(leaves: int) -> None:
    """Sums of sums."""
    level = [work.same(i) for i in range(leaves)]
    while len(level) > 1:
        level = [work.total(level[i : i + TREE_WIDTH]) for i in range(0, len(level), TREE_WIDTH)]
    if shoal.wait_on(level[0]) != leaves * (leaves - 1) // 2:
        raise AssertionError("the sum is wrong")


def million(agent: Agent, count: int) -> dict[str, float]:
    """Submits as fast as it is let; the agent's memory is watched meanwhile."""
    before = resident(agent)
    peak, stop = [before], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            peak[0] = max(peak[0], resident(agent))

    watcher = threading.Thread(target=watch)
    watcher.start()
    took = seconds(lambda: submit(count))
    stop.set()
    watcher.join()
    return {"million": count / took, "memory": max(1.0, (peak[0] - before) / count)}


def submit(count: int) -> None:
    """Tasks without results, then one wait for all."""
    for _ in range(count):
        work.nothing()
    shoal.barrier()


def resident(agent: Agent) -> int:
    """Bytes of memory of the agent's process."""
    assert agent.process is not None
    pages = Path(f"/proc/{agent.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def sleepers_take(count: int) -> float:
    """Seconds that tasks of some milliseconds take."""
    return seconds(lambda: shoal.wait_on([work.pause(SLEEP_MS) for _ in range(count)]))


def lost_executor(agent: Agent, count: int) -> float:
    """How much longer the same tasks take when an executor is killed at a third of the time."""
    whole = sleepers_take(count)
    killer = threading.Timer(whole / 3, lambda: os.kill(executors_of(agent)[0], signal.SIGKILL))
    killer.start()
    disturbed = sleepers_take(count)
    killer.join()
    return max(0.001, disturbed - whole)


def executors_of(agent: Agent) -> list[int]:
    """Process ids of its Python executors that run tasks."""
    assert agent.process is not None
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
                busy = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[11])
            except (OSError, IndexError):
                continue
            if b"shoal.executor" in command and str(agent.home).encode() in environment:
                found.append((busy, int(entry.name)))
    return [pid for _, pid in sorted(found, reverse=True)]


def grain(count: int) -> float:
    """Task Bench's measure: the shortest task of which two executors do at least half of what they could."""
    for grain_us in GRAINS_US:
        took = min(seconds(lambda us=grain_us: spin(us, count)) for _ in range(3))
        if count * grain_us / 1e6 / 2 >= took / 2:
            return grain_us
    return GRAINS_US[-1] * 2.0


def spin(microseconds: int, count: int) -> None:
    """Tasks that keep two executors busy."""
    shoal.wait_on([work.spin(microseconds) for _ in range(count)])


def cpp(options: Options, cluster: Cluster, agent: Agent) -> dict[str, float]:
    """The C++ program alone, at its agent, and from an agent without units beside it."""
    program = str(options.binaries / "shoal-bench-tasks")
    count = str(options.size(200_000, 500))
    without_agent = {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
    alone = subprocess.run([program, count], env=without_agent, capture_output=True, text=True, check=True, timeout=120)
    here = agent.shoal("run", program, count, timeout=120)
    home = cluster.join("home", agent, computing_units=0)
    wait_until(lambda: len(home.json("agents")["agents"]) == 2, 15, "both agents know each other")
    there = home.shoal("run", program, count, timeout=120)
    runs = {"cpp_local": alone, "cpp_agent": here, "cpp_link": there}
    return {key: json.loads(done.stdout)["void_per_s"] for key, done in runs.items()}


def cold_start(cluster: Cluster) -> float:
    """An agent, a program and an executor, from nothing to a result."""
    agent = cluster.found(f"cold-{len(list(cluster.directory.iterdir()))}", computing_units=1, start=False)
    code = "import shoal, work\nassert shoal.wait_on(work.same(1)) == 1"
    paths = os.pathsep.join(sys.path)
    begin = time.perf_counter()
    agent.start()
    environment = os.environ | {"SHOAL_SOCKET": str(agent.socket), "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    return time.perf_counter() - begin
