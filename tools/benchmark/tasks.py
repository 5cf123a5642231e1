"""No-op tasks: how many a second, and how long one takes there and back."""

from __future__ import annotations

import tempfile

import shoal
import work
from cluster import Cluster
from report import Options, Report, each_us, percentile, seconds

FRAME_BYTES = 128  # about what a no-op task is on the agent's socket


def measure(options: Options, report: Report) -> None:
    """One driver (this process), one agent, two executors; the floor is ZeroMQ between two processes."""
    for kind in ("ipc", "tcp"):
        report.row(f"zmq_{kind}_round_trip", f"ZeroMQ {kind}, {FRAME_BYTES} B there and back", "us")
        report.row(f"zmq_{kind}_p99", "… 99th percentile", "us")
        report.row(f"zmq_{kind}_pipelined", "… 1,000 under way", "msg/s")
    report.row("void", "tasks without result, then a barrier", "tasks/s", "zmq_ipc_pipelined", "≥ 20,000")
    report.row("results", "tasks with result, all waited for", "tasks/s", "zmq_ipc_pipelined", "≥ 20,000")
    report.row("chain", "tasks that take the result before", "tasks/s", "zmq_ipc_pipelined")
    report.row("round_trip", "one task there and back", "us", "zmq_ipc_round_trip", "≤ 300")
    report.row("round_trip_p99", "… 99th percentile", "us", "zmq_ipc_p99")

    many = options.size(20_000, 200)
    serial = options.size(1_000, 20)
    chained = options.size(2_000, 50)
    echoes = options.size(10_000, 200)
    with Cluster(binaries=options.binaries) as cluster, tempfile.TemporaryDirectory() as directory:
        agent = cluster.found("bench", computing_units=2)
        shoal.connect(agent.socket)
        try:
            shoal.wait_on([work.same(i) for i in range(100)])  # executors are up, functions are known
            for run in range(options.runs):
                for kind, endpoint in (("ipc", f"ipc://{directory}/{run}"), ("tcp", f"tcp://127.0.0.1:{20_100 + run}")):
                    floor = options.floor("zmq", endpoint, FRAME_BYTES, echoes)
                    report.add(**{f"zmq_{kind}_round_trip": floor["round_trip_us"],
                                  f"zmq_{kind}_p99": floor["round_trip_p99_us"],
                                  f"zmq_{kind}_pipelined": floor["pipelined_per_s"]})
                times = each_us(lambda i: shoal.wait_on(work.same(i)), serial)
                report.add(void=many / seconds(lambda: void(many)), results=many / seconds(lambda: results(many)),
                           chain=chained / seconds(lambda: chain(chained)),
                           round_trip=percentile(times, 50), round_trip_p99=percentile(times, 99))
        finally:
            shoal.disconnect()


def void(count: int) -> None:
    """Submits, then waits for all at once."""
    for _ in range(count):
        work.nothing()
    shoal.barrier()


def results(count: int) -> None:
    """Submits and fetches every result."""
    values = shoal.wait_on([work.same(i) for i in range(count)])
    if values != list(range(count)):
        raise AssertionError("the tasks' results are wrong")


def chain(count: int) -> None:
    """Each task reads what the one before wrote."""
    value = 0
    for _ in range(count):
        value = work.same(value)
    if shoal.wait_on(value) != 0:
        raise AssertionError("the chain's result is wrong")
