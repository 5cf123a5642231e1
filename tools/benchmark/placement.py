"""Where tasks with large inputs run: two agents on loopback, our schedule beside random ones of the same program."""

from __future__ import annotations

import os
import random
import statistics
import time
from typing import Any

import shoal
import work
from cluster import Agent, Cluster
from report import Options, Report
from shoal import _runtime

RANDOM_SCHEDULES = 20


def measure(options: Options, report: Report) -> None:
    """Values of 1 to 50 MB, each on one of two agents by lot; tasks that read one or two of them."""
    report.row("makespan", "makespan, the default scheduler", "ms")
    report.row("random_best", f"… the best of {RANDOM_SCHEDULES} random schedules", "ms")
    report.row("makespan_ratio", "… ours to the best random one", "ratio", bar="≤ 1.15")
    report.row("moved", "inputs moved between the agents, the default scheduler", "MB")
    report.row("random_moved", "… random schedules, mean", "MB")
    report.row("moved_ratio", "… ours to theirs", "ratio", bar="≤ 0.6")
    with Cluster(binaries=options.binaries) as cluster:
        first = cluster.found("a", computing_units=1, labels={"site": "a"})
        cluster.join("b", first, computing_units=1, labels={"site": "b"})
        for program in range(options.runs):
            ours_ms, ours_mb = schedule(first, options, program, "completion")
            others = [schedule(first, options, program, "random") for _ in range(options.size(RANDOM_SCHEDULES, 2))]
            best_ms = min(ms for ms, _ in others)
            mean_mb = statistics.fmean(mb for _, mb in others)
            report.add(makespan=ours_ms, random_best=best_ms, makespan_ratio=ours_ms / best_ms, moved=ours_mb,
                       random_moved=mean_mb, moved_ratio=ours_mb / max(mean_mb, 1e-9))


def schedule(agent: Agent, options: Options, program: int, scheduler: str) -> tuple[float, float]:
    """One run of the program in an application of its own: milliseconds, and megabytes of inputs that moved."""
    lot = random.Random(program)
    os.environ["SHOAL_SCHEDULER"] = scheduler
    shoal.connect(agent.socket)
    try:
        sizes = [lot.randint(1_000_000, 50_000_000) for _ in range(options.size(10, 2))]
        values = [(work.zeros_on_a if lot.random() < 0.5 else work.zeros_on_b)(size) for size in sizes]
        shoal.barrier()
        tasks = [(lot.sample(range(len(values)), lot.randint(1, 2)), lot.uniform(0.02, 0.1))
                 for _ in range(options.size(40, 6))]
        start = time.perf_counter()
        for reads, pause_s in tasks:
            work.use(pause_s, *(values[read] for read in reads))
        shoal.barrier()
        elapsed_ms = (time.perf_counter() - start) * 1e3
        session: Any = _runtime.requester()
        ran_on = {row["task"]: row["agent"] for row in agent.json("tasks", session.app.hex(), "-n", "10000")["tasks"]}
        return elapsed_ms, moved_bytes(sizes, tasks, ran_on) / 1e6
    finally:
        shoal.disconnect()
        del os.environ["SHOAL_SCHEDULER"]


def moved_bytes(sizes: list[int], tasks: list[tuple[list[int], float]], ran_on: dict[int, str]) -> int:
    """A value travels to an agent once. Tasks are numbered from 1: those that make the values, then those that read them."""
    copies = {(read, ran_on[len(sizes) + 1 + i]) for i, (reads, _) in enumerate(tasks) for read in reads}
    return sum(sizes[value] for value, agent in copies if ran_on[value + 1] != agent)
